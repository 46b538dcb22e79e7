import openai
import pytest
from tandem_server import TandemServer


@pytest.fixture(scope="session")
def server():
    """The default model, as `make run` starts it."""
    with TandemServer() as running:
        yield running


@pytest.fixture(scope="session")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", timeout=300, max_retries=0)
