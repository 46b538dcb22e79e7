import openai
import pytest
from tandem_server import TandemServer

KEY = "a-key"


@pytest.fixture(scope="session")
def server():
    """The default model, as `make run` starts it, with a key."""
    with TandemServer(key=KEY) as running:
        yield running


@pytest.fixture(scope="session")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=KEY, timeout=300, max_retries=0)
