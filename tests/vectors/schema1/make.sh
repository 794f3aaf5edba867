#!/bin/sh
# Makes the keys, certificates and signed manifests of this folder by openssl, and lays them out as libtrust does.
# Signatures by ECDSA differ from run to run; the tests don't depend on their values. skopeo.json is what
# `skopeo copy --format v2s1` (1.9.3) pushed to distribution 2.8.2, and docker-registry.json what that served for it,
# signed by its own key; neither is made here.
set -eu
cd "$(dirname "$0")"
mkdir -p keys
new_ec() { openssl ecparam -name "$2" -genkey -noout -out "keys/$1.pem"; }
[ -e keys/p256.pem ] || {
    new_ec p256 prime256v1; new_ec p384 secp384r1; new_ec p521 secp521r1;
    new_ec root prime256v1; new_ec intermediate secp384r1; new_ec leaf prime256v1; new_ec stranger prime256v1
    openssl genrsa -out keys/rsa2048.pem 2048
    openssl genrsa -out keys/rsa3072.pem 3072
    openssl genrsa -out keys/rsa1024.pem 1024
}
# Certificates: a chain of three, and a root that has nothing to do with it.
self() {
    openssl req -x509 -new -key "keys/$1.pem" -subj "/CN=$1" -days 36500 -outform DER -out "$1.der" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
}
signed() {
    openssl req -new -key "keys/$1.pem" -subj "/CN=$1" -out "$1.csr"
    printf 'basicConstraints=critical,CA:%s\n' "$3" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA "$2.der" -CAform DER -CAkey "keys/$2.pem" -days 36500 -set_serial 1 \
        -extfile "$1.ext" -outform DER -out "$1.der"
    rm "$1.csr" "$1.ext"
}
self root; self stranger; signed intermediate root TRUE; signed leaf intermediate FALSE
exec python3 sign.py
