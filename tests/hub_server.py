"""The few endpoints of Hugging Face's hub that a preset's way there and back takes, as a server on loopback."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse


class Hub:
    """Repositories in memory.

    Attributes:
        commits: {repository: [(hash, {path: bytes}), ...]}, the latest last.
        requests: "METHOD path" of all requests so far.
        tokens: the tokens that may write.
    """

    def __init__(self):
        self.commits, self.requests, self.tokens, self.large = {}, [], {"hf_owner"}, {}

    def files(self, repository, revision="main"):
        """(hash, files) of a revision; KeyError if there is no such repository or revision."""
        commits = self.commits[repository]
        if revision == "main":
            return commits[-1]
        return next((commit for commit in commits if commit[0] == revision), None) or self.commits[f"no {revision}"]

    def add(self, repository, files):
        """Adds a commit that consists of `files`, and the repository if need be; returns its hash."""
        commits = self.commits.setdefault(repository, [])
        commits.append((hashlib.sha1(f"{repository} {len(commits)}".encode()).hexdigest(), files))
        return commits[-1][0]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        hub, path = self.server.hub, urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.requests.append(f"{self.command} {path}")
        # Uploads of large files (PUT) go to addresses that are a secret themselves.
        if self.command == "POST" and self.headers.get("Authorization", "")[7:] not in hub.tokens:
            return self.answer(401, {"error": "Invalid credentials"})
        for method, pattern, function in ROUTES:
            if method == self.command.replace("HEAD", "GET") and (match := re.fullmatch(pattern, path)):
                try:
                    return function(self, hub, *match.groups(), body=body, query=query)
                except KeyError as error:
                    code = "RevisionNotFound" if "no " in str(error) else "RepoNotFound"
                    return self.answer(404, {"error": code}, X_Error_Code=code, X_Error_Message=code)
        return self.answer(404, {"error": "no such endpoint"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def log_message(self, *arguments):
        pass


def list_models(handler, hub, body, query):
    mine = [r for r in hub.commits if r.startswith(f"{query['author']}/")]
    tagged = [r for r in mine if f'"{query["filter"]}"' in hub.files(r)[1].get("README.md", b"").decode()]
    handler.answer(200, [{"id": repository, "modelId": repository, "tags": []} for repository in tagged])


def model_info(handler, hub, repository, _, revision, body, query):
    oid, files = hub.files(repository, revision or "main")
    handler.answer(200, {"id": repository, "sha": oid, "siblings": [{"rfilename": path} for path in files]})


def tree(handler, hub, repository, revision, body, query):
    _, files = hub.files(repository, revision)
    entries = [
        {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for path, data in files.items()
    ]
    handler.answer(200, entries)


def resolve(handler, hub, repository, revision, path, body, query):
    oid, files = hub.files(repository, revision)
    if path not in files:
        return handler.answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=oid)
    data = files[path]
    return handler.answer(200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=oid)


def create(handler, hub, body, query):
    request = json.loads(body)
    repository = f"{request['organization']}/{request['name']}"
    status = 409 if repository in hub.commits else 200
    if status == 200:
        hub.add(repository, {".gitattributes": b"*.pb filter=lfs\n"})  # with which every repository begins
    handler.answer(status, {"url": f"http://{handler.headers['Host']}/{repository}"})


def validate_yaml(handler, hub, body, query):
    handler.answer(200, {"errors": [], "warnings": []})


def preupload(handler, hub, repository, revision, body, query):
    files = [
        {"path": file["path"], "uploadMode": "lfs" if file["size"] > 10_000 else "regular", "shouldIgnore": False}
        for file in json.loads(body)["files"]
    ]
    handler.answer(200, {"files": files})


def batch(handler, hub, repository, body, query):
    objects = []
    for item in json.loads(body)["objects"]:
        href = f"http://{handler.headers['Host']}/large/{item['oid']}"
        objects.append({**item, "authenticated": True, "actions": {"upload": {"href": href}}})
    handler.answer(200, {"transfer": "basic", "objects": objects})


def upload_large(handler, hub, oid, body, query):
    hub.large[oid] = body
    handler.answer(200)


def commit(handler, hub, repository, revision, body, query):
    files = dict(hub.files(repository)[1])
    for line in body.splitlines():
        entry = json.loads(line)
        value = entry["value"]
        if entry["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif entry["key"] == "lfsFile":
            files[value["path"]] = hub.large[value["oid"]]
            assert hashlib.sha256(files[value["path"]]).hexdigest() == value["oid"]
        elif entry["key"] == "deletedFile":
            del files[value["path"]]
    oid = hub.add(repository, files)
    url = f"http://{handler.headers['Host']}/{repository}/commit/{oid}"
    handler.answer(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


_REPOSITORY = r"([^/]+/[^/]+)"
ROUTES = (
    ("GET", "/api/models", list_models),
    ("GET", rf"/api/models/{_REPOSITORY}(/revision/(.+))?", model_info),
    ("GET", rf"/api/models/{_REPOSITORY}/tree/([^/]+)", tree),
    ("GET", rf"/{_REPOSITORY}/resolve/([^/]+)/(.+)", resolve),
    ("POST", "/api/repos/create", create),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("POST", rf"/api/models/{_REPOSITORY}/preupload/([^/]+)", preupload),
    ("POST", rf"/{_REPOSITORY}\.git/info/lfs/objects/batch", batch),
    ("PUT", r"/large/(\w+)", upload_large),
    ("POST", rf"/api/models/{_REPOSITORY}/commit/([^/]+)", commit),
)


@contextlib.contextmanager
def serve():
    """Yields (a `Hub`, its endpoint)."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.hub = Hub()
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.hub, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
