"""Throw-away certificates and JSON Web Tokens for the benchmark, made with the openssl CLI."""
import base64
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

TRUST_DOMAIN = "bench.local"
CLIENT_ID = f"spiffe://{TRUST_DOMAIN}/ns/default/sa/client"
SERVER_ID = f"spiffe://{TRUST_DOMAIN}/ns/default/sa/server"
INTRUDER_ID = f"spiffe://{TRUST_DOMAIN}/ns/default/sa/intruder"
SERVER_DNS = "server.bench.local"
ISSUER = "https://issuer.bench.local"
AUDIENCE = "bench-api"


def _run(*argv, stdin=None):
    return subprocess.run(argv, input=stdin, check=True, capture_output=True).stdout


def _key(path):
    _run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)


def _ca(d, name):
    _key(f"{d}/{name}.key")
    _run("openssl", "req", "-x509", "-new", "-sha256", "-key", f"{d}/{name}.key", "-days", "30",
         "-subj", f"/O={TRUST_DOMAIN}/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
         "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-addext", f"subjectAltName=URI:spiffe://{TRUST_DOMAIN}",
         "-out", f"{d}/{name}.crt")


def _leaf(d, name, ca, cn, san, eku):
    _key(f"{d}/{name}.key")
    _run("openssl", "req", "-new", "-sha256", "-key", f"{d}/{name}.key", "-subj", f"/O={TRUST_DOMAIN}/CN={cn}",
         "-out", f"{d}/{name}.csr")
    with open(f"{d}/{name}.ext", "w") as f:
        f.write("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                f"extendedKeyUsage={eku}\nsubjectAltName={san}\n"
                "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
    _run("openssl", "x509", "-req", "-sha256", "-in", f"{d}/{name}.csr", "-CA", f"{d}/{ca}.crt",
         "-CAkey", f"{d}/{ca}.key", "-CAcreateserial", "-days", "7", "-extfile", f"{d}/{name}.ext",
         "-out", f"{d}/{name}.crt")
    with open(f"{d}/{name}.pem", "w") as out:  # certificate + key in one file, for peers that want that
        for part in ("crt", "key"):
            out.write(open(f"{d}/{name}.{part}").read())


def make_certs(d):
    """ECDSA P-256 everywhere. ca: the mesh's own CA. rogueca: an attacker's CA with the same names."""
    os.makedirs(d, exist_ok=True)
    for ca in ("ca", "rogueca"):
        _ca(d, ca)
    both = "serverAuth,clientAuth"
    _leaf(d, "client", "ca", "ns.default.sa.client", f"URI:{CLIENT_ID}", both)
    _leaf(d, "server", "ca", "ns.default.sa.server", f"URI:{SERVER_ID},DNS:{SERVER_DNS}", both)
    _leaf(d, "intruder", "ca", "ns.default.sa.intruder", f"URI:{INTRUDER_ID},DNS:intruder.bench.local", both)
    _leaf(d, "rogueclient", "rogueca", "ns.default.sa.client", f"URI:{CLIENT_ID}", both)
    _leaf(d, "rogueserver", "rogueca", "ns.default.sa.server", f"URI:{SERVER_ID},DNS:{SERVER_DNS}", both)


def b64u(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _der_ints(der):
    """(r, s) of a DER ECDSA signature as 32 bytes each."""
    i = 2 if der[1] < 0x80 else 3
    out = b""
    for _ in range(2):
        n = der[i + 1]
        out += der[i + 2:i + 2 + n].lstrip(b"\0").rjust(32, b"\0")
        i += 2 + n
    return out


def sign_jwt(d, alg, claims, key=None):
    key = key or f"{d}/jwt-{alg}.key"
    head = b64u(json.dumps({"alg": alg, "kid": alg, "typ": "JWT"}).encode())
    signed = f"{head}.{b64u(json.dumps(claims).encode())}"
    if alg == "none":
        return signed + "."
    sig = _run("openssl", "dgst", "-sha256", "-sign", key, stdin=signed.encode())
    return f"{signed}.{b64u(_der_ints(sig) if alg == 'ES256' else sig)}"


def make_jwts(d):
    """Keys, jwks.json, PEM public keys and a dict of good and bad tokens."""
    os.makedirs(d, exist_ok=True)
    for name in ("jwt-RS256", "evil-RS256"):
        _run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", f"{d}/{name}.key")
    _key(f"{d}/jwt-ES256.key")
    for alg in ("RS256", "ES256"):
        _run("openssl", "pkey", "-in", f"{d}/jwt-{alg}.key", "-pubout", "-out", f"{d}/jwt-{alg}.pub")
    mod = _run("openssl", "rsa", "-in", f"{d}/jwt-RS256.key", "-noout", "-modulus").decode().strip().split("=")[1]
    point = _run("openssl", "pkey", "-in", f"{d}/jwt-ES256.key", "-pubout", "-outform", "DER")[-64:]
    jwks = {"keys": [
        {"kty": "RSA", "kid": "RS256", "alg": "RS256", "use": "sig", "n": b64u(bytes.fromhex(mod)), "e": "AQAB"},
        {"kty": "EC", "kid": "ES256", "alg": "ES256", "use": "sig", "crv": "P-256",
         "x": b64u(point[:32]), "y": b64u(point[32:])}]}
    with open(f"{d}/jwks.json", "w") as f:
        json.dump(jwks, f)
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 86400}
    tok = {alg: sign_jwt(d, alg, good) for alg in ("RS256", "ES256")}
    tok["expired"] = sign_jwt(d, "RS256", {**good, "iat": now - 7200, "exp": now - 3600})
    tok["wrong-issuer"] = sign_jwt(d, "RS256", {**good, "iss": "https://evil.bench.local"})
    tok["wrong-audience"] = sign_jwt(d, "RS256", {**good, "aud": "another-api"})
    tok["wrong-key"] = sign_jwt(d, "RS256", good, f"{d}/evil-RS256.key")
    tok["alg-none"] = sign_jwt(d, "none", good)
    tok["tampered"] = tok["ES256"][:-6] + ("AAAAAA" if tok["ES256"][-6:] != "AAAAAA" else "BBBBBB")
    tok["garbage"] = "not.a.token"
    return tok


def make_new_jwts(d, alg, total):
    """Good tokens, no two alike, of `total` bytes together, one a line in new-ALG.txt. More than a cache of verified
    tokens holds, so that each of them is new to the proxy although they come round and round."""
    now = int(time.time())

    def one(n):
        return sign_jwt(d, alg, {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 86400, "jti": n})
    count = total // len(one(100000)) + 1
    with ThreadPoolExecutor(os.cpu_count()) as pool, open(f"{d}/new-{alg}.txt", "w") as f:
        for token in pool.map(one, range(100000, 100000 + count)):
            f.write(token + "\n")
