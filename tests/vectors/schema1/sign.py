"""Signs one manifest by the keys of this folder as libtrust does; only openssl does the cryptography."""

import base64
import hashlib
import json
import subprocess

CURVES = {"p256": ("P-256", 32), "p384": ("P-384", 48), "p521": ("P-521", 66), "leaf": ("P-256", 32)}


def run(*command, data=None):
    return subprocess.run(["openssl", *command], input=data, check=True, capture_output=True).stdout


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def key_id(name):
    spki = run("pkey", "-in", f"keys/{name}.pem", "-pubout", "-outform", "DER")
    text = base64.b32encode(hashlib.sha256(spki).digest()[:30]).decode()
    return ":".join(text[at : at + 4] for at in range(0, 48, 4))


def integers(der):
    """The integers of a flat DER sequence."""
    def item(at):
        length, at = der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        return at, length
    at, _ = item(0)
    while at < len(der):
        at, length = item(at)
        yield int.from_bytes(der[at : at + length], "big")
        at += length


def jwk(name):
    spki = run("pkey", "-in", f"keys/{name}.pem", "-pubout", "-outform", "DER")
    if name in CURVES:
        curve, size = CURVES[name]
        x, y = spki[-2 * size : -size], spki[-size:]
        return {"crv": curve, "kid": key_id(name), "kty": "EC", "x": b64(x), "y": b64(y)}
    modulus, exponent = integers(run("rsa", "-in", f"keys/{name}.pem", "-RSAPublicKey_out", "-outform", "DER"))
    number = lambda value: b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))
    return {"e": number(exponent), "kid": key_id(name), "kty": "RSA", "n": number(modulus)}


def block(name, algorithm, payload, chain=(), time="2015-04-08T18:52:59Z"):
    length = len(payload.rstrip()[:-1].rstrip())
    protected = {"formatLength": length, "formatTail": b64(payload[length:]), "time": time}
    protected = b64(json.dumps(protected, separators=(",", ":")).encode())
    message = f"{protected}.{b64(payload)}".encode()
    signature = run("dgst", f"-sha{algorithm[2:]}", "-sign", f"keys/{name}.pem", data=message)
    if algorithm.startswith("ES"):
        size = CURVES[name][1]
        signature = b"".join(value.to_bytes(size, "big") for value in integers(signature))
    header = {} if chain else {"jwk": jwk(name)}
    header["alg"] = algorithm
    if chain:
        header["x5c"] = [base64.b64encode(open(f"{cert}.der", "rb").read()).decode() for cert in chain]
    return {"header": header, "signature": b64(signature), "protected": protected}


def pretty(payload, blocks, indent):
    head = payload.rstrip()[:-1].rstrip()
    if not indent:
        return head + b',"signatures":' + json.dumps(blocks, separators=(",", ":")).encode() + b"}"
    text = json.dumps(blocks, indent=indent).replace("\n", "\n" + " " * indent)
    return head + b",\n" + b" " * indent + b'"signatures": ' + text.encode() + b"\n}"


layer = lambda text: "sha256:" + hashlib.sha256(text).hexdigest()
manifest = {
    "name": "team/box",
    "tag": "1",
    "architecture": "amd64",
    "fsLayers": [{"blobSum": layer(b"two")}, {"blobSum": layer(b"one")}],
    "history": [
        {"v1Compatibility": json.dumps({"id": "b", "parent": "a", "note": "<é & \"}]"})},
        {"v1Compatibility": json.dumps({"id": "a"})},
    ],
    "schemaVersion": 1,
}
payload = json.dumps(manifest, indent=3).encode()
open("payload.json", "wb").write(payload)
singles = [("p256", "ES256"), ("p384", "ES384"), ("p521", "ES512"), ("rsa2048", "RS256"), ("rsa2048", "RS384"), ("rsa3072", "RS512")]
blocks = []
for name, algorithm in singles:
    blocks.append((key_id(name), algorithm, block(name, algorithm, payload)))
    open(f"{algorithm.lower()}.json", "wb").write(pretty(payload, [blocks[-1][2]], 3))
chained = block("leaf", "ES256", payload, ["leaf", "intermediate"])
open("x5c.json", "wb").write(pretty(payload, [chained], 3))
blocks.append((key_id("leaf"), "ES256", chained))
blocks.sort(key=lambda item: item[:2])
open("several.json", "wb").write(pretty(payload, [item[2] for item in blocks], 3))
open("several.txt", "w").write("".join(f"{kid} {algorithm}\n" for kid, algorithm, _ in blocks))
later = block("p256", "ES256", payload, time="2016-01-02T03:04:05Z")
open("es256-later.json", "wb").write(pretty(payload, [later], 3))
# Another layout of the same fields is another payload; one without line breaks is taken apart at another place.
compact = json.dumps(manifest, separators=(",", ":")).encode()
open("compact.json", "wb").write(pretty(compact, [block("p256", "ES256", compact)], 0))
# The closing brace on a line of its own, and a line break at the end: libtrust writes neither back.
loose = payload[:-2] + b"  \n\t}\n"
open("loose.json", "wb").write(pretty(loose, [block("p256", "ES256", loose)], 3))
small = block("rsa2048", "RS256", payload)
small["header"]["jwk"] = jwk("rsa1024")
open("rsa1024.json", "wb").write(pretty(payload, [small], 3))
