#!/usr/bin/env python3
"""Fills a running registry with one of everything that the schema stores.

    orlop serve --listen 127.0.0.1:5000 --data DIR &
    tests/data/fill.py http://127.0.0.1:5000
    kill %1 && tar -C DIR -czf tests/data/schema-N.tar.gz --exclude=lock .

Each release that changes the schema keeps what its predecessor wrote, and tests/migrations.rs opens them all.
"""
import hashlib
import json
import pathlib
import sys
import urllib.request

BASE = sys.argv[1]
OCI = "application/vnd.oci.image."


def call(method, path, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(BASE + path, data=body, method=method, headers=headers)
    return urllib.request.urlopen(request)


def digest(content, algorithm="sha256"):
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def blob(name, content, algorithm="sha256"):
    named = digest(content, algorithm)
    call("POST", f"/v2/{name}/blobs/uploads/?digest={named}", content, Content_Type="application/octet-stream")
    return {"mediaType": OCI + "layer.v1.tar", "digest": named, "size": len(content)}


def manifest(name, reference, content, media_type):
    payload = json.dumps(content).encode()
    reference = reference or digest(payload)
    call("PUT", f"/v2/{name}/manifests/{reference}", payload, Content_Type=media_type)
    return {"mediaType": media_type, "digest": digest(payload), "size": len(payload)}


def image(name, reference, *layers, **more):
    config = blob(name, b"{}")
    config["mediaType"] = OCI + "config.v1+json"
    content = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": config, "layers": layers, **more}
    return manifest(name, reference, content, OCI + "manifest.v1+json")


first = image("team/app", "latest", blob("team/app", b"first layer"))
second = image("team/app", "latest", blob("team/app", b"second layer"))
index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": [first, second]}
manifest("team/app", "both", index, OCI + "index.v1+json")
signature = "application/vnd.example.signature"
image("team/app", None, blob("team/app", b"signed"), subject=second, artifactType=signature, annotations={"a": "b"})
image("other", "by-sha512", blob("other", b"named by sha512", "sha512"))
payload = json.dumps({"opaque": True}).encode()
call("PUT", f"/v2/other/manifests/{digest(payload, 'sha512')}?tag=opaque", payload, Content_Type="application/x+json")
call("POST", f"/v2/other/blobs/uploads/?mount={digest(b'first layer')}&from=team/app", b"")
# Two signatures of one schema 1 manifest.
blob("team/box", b"one"), blob("team/box", b"two")
vectors = pathlib.Path(__file__).parent.parent / "vectors" / "schema1"
prettyjws = "application/vnd.docker.distribution.manifest.v1+prettyjws"
call("PUT", "/v2/team/box/manifests/1", (vectors / "several.json").read_bytes(), Content_Type=prettyjws)
upload = call("POST", "/v2/other/blobs/uploads/", b"").headers["Location"]
call("PATCH", upload, b"half of", Content_Range="0-6", Content_Type="application/octet-stream")
print(upload)
# A pull that is counted, and a manifest that can be undeleted.
call("GET", "/v2/team/app/manifests/latest")
gone = image("team/app", None, blob("team/app", b"deleted"))
call("DELETE", f"/v2/team/app/manifests/{gone['digest']}")
