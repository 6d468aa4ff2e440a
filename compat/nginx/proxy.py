"""An nginx of its own: unprivileged, in a temporary folder, on free ports."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile

from checks import wait_until

HYDRANT = os.environ["HYDRANT_HTTP"]
DOCUMENT = pathlib.Path(os.environ["HYDRANT_COMPAT"]).parent / "docs/streaming.md"

# What the servers beside the documented one have in their `server` block.
BLOCKS = {
    # Nothing but where it goes: HTTP/1.0 in older versions, buffers, a body of 1 MiB.
    "bare": "location / { proxy_pass http://HYDRANT; }",
    # The same, deaf to X-Accel-Buffering: shows that the measure would notice a buffer.
    "deaf": "location / { proxy_pass http://HYDRANT; proxy_ignore_headers X-Accel-Buffering; }",
    "packing": """
        gzip on; gzip_proxied any; gzip_min_length 0; gzip_http_version 1.0;
        gzip_types text/event-stream application/x-ndjson application/json;
        location / { proxy_pass http://HYDRANT; }""",
    "open": """
        client_max_body_size 0; proxy_request_buffering off; proxy_http_version 1.1;
        location / { proxy_pass http://HYDRANT; }""",
    "below": """
        location /log/ {
            proxy_pass http://HYDRANT/;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Prefix /log;
        }""",
}

# A worker that is replaced cuts its streams after a second, so that a reload is seen by them.
FRAME = """
daemon off; worker_processes 1; worker_shutdown_timeout 1s; pid nginx.pid; error_log error.log;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    SERVERS
}
"""


def documented():
    """What the documentation advises, for the addresses of this run."""
    return re.search(r"```nginx\n(.*?)```", DOCUMENT.read_text(), re.S).group(1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Proxy:
    """Runs until `stop`; `url[NAME]` is where a server listens."""

    def __init__(self):
        ports = {name: free_port() for name in [*BLOCKS, "documented"]}
        self.url = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        advised, changed = re.subn(r"listen \d+;", f"listen 127.0.0.1:{ports['documented']};", documented())
        assert changed == 1, "the documented server listens once"
        servers = [advised.replace("127.0.0.1:8082", HYDRANT)]
        for name, block in BLOCKS.items():
            servers.append(f"server {{ listen 127.0.0.1:{ports[name]}; {block} }}".replace("HYDRANT", HYDRANT))
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hydrant-nginx."))
        (self.folder / "nginx.conf").write_text(FRAME.replace("SERVERS", "\n".join(servers)))
        self.rights = {}
        if os.geteuid() == 0:
            self.rights = {"user": 65534, "group": 65534, "extra_groups": []}
            for path in [self.folder, *self.folder.iterdir()]:
                os.chown(path, 65534, 65534)
        self.start()

    def start(self):
        command = [os.environ["HYDRANT_NGINX"], "-p", f"{self.folder}/", "-c", "nginx.conf", "-e", "error.log"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **self.rights)
        wait_until(lambda: f"nginx listens; it says {self.said()}", self.listens)

    def said(self):
        log = self.folder / "error.log"
        return log.read_text() if log.exists() else ""

    def listens(self):
        if self.process.poll() is not None:
            raise AssertionError(f"nginx ended with {self.process.returncode}: {self.said()}")
        try:
            address = self.url["bare"].removeprefix("http://").split(":")
            socket.create_connection((address[0], int(address[1])), 1).close()
        except OSError:
            return False
        return True

    def workers(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return set(children.read_text().split())

    def reload(self):
        """Replaces the worker and waits until the one before is gone, with its connections."""
        before = self.workers()
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: f"other workers than {before}", lambda: self.workers() and not self.workers() & before)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        subprocess.run(["rm", "-rf", self.folder], check=True)
