"""An S3 stand-in on the loopback interface: moto, with one bucket.

Prints its port, and ends with its standard input, whose lines make it misbehave: `down` (503 to everything), `slow MS`,
`off`. A request at a time is looked at, as the real thing's conditional writes are: moto alone looks for the name and then
takes it, and two threads could both find it free.
"""

import sys
import threading
import time

import moto.core.utils
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

lock = threading.Lock()
trouble = ["off"]
moto_app = DomainDispatcherApplication(create_backend_app)


def app(environ, start_response):
    kind, *argument = trouble
    if kind == "down":
        start_response("503 Slow Down", [("Content-Length", "0")])
        return [b""]
    if kind == "slow":
        time.sleep(int(argument[0]) / 1000)
    with lock:
        answer = moto_app(environ, start_response)
        try:
            return [b"".join(answer)]
        finally:
            if hasattr(answer, "close"):
                answer.close()


s3_backends["123456789012"]["aws"].create_bucket("skep", "us-east-1")
server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
for line in sys.stdin:
    trouble[:] = line.split() or ["off"]
    print("so be it", flush=True)
