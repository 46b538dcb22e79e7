"""A client in asyncio that can misbehave: one connection, requests one after the other, hanging up at will."""
import asyncio
import json


class HungUp(Exception):
    """This client left in the middle, as it meant to."""


class Connection:
    def __init__(self, port):
        self.port = port
        self.reader = self.writer = None

    async def open(self):
        if self.writer is None or self.writer.is_closing():
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    def close(self):
        if self.writer is not None:
            self.writer.transport.abort()  # with a reset: the server must notice that too
            self.reader = self.writer = None

    async def request(self, method, path, body=b"", headers=(), leave_after=None):
        """Status and body. leave_after: seconds until it hangs up, unless the answer is there before."""
        await self.open()
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}",
                 "Content-Type: application/json", *headers]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        try:
            return await asyncio.wait_for(self._read_response(), leave_after)
        except asyncio.TimeoutError:
            self.close()
            raise HungUp from None

    async def _read_response(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(head.split(" ", 2)[1])
        if "transfer-encoding: chunked" in head:
            body = await self._read_chunks()
        else:
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            body = await self.reader.readexactly(length)
        if "connection: close" in head:
            self.close()
        return status, body

    async def _read_chunks(self):
        body = b""
        while True:
            line = await self.reader.readline()
            if not line:  # a stream that was broken off, behind the event that says why
                self.close()
                return body
            size = int(line, 16)
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            if size == 0:
                return body


def stream_events(body):
    """The JSON of each event; the last must be [DONE]."""
    events = [event[6:] for event in body.decode().split("\n\n") if event.startswith("data: ")]
    assert events and events[-1] == "[DONE]", body[-200:]
    return [json.loads(event) for event in events[:-1]]
