"""Palisade from files, one worker. Binary: $PALISADE_BIN, or target/release/palisade of this checkout."""
import os
import shutil
import subprocess

from harness.adapter import Adapter, Deployment, Proc

HERE = os.path.dirname(os.path.abspath(__file__))
BUILT = os.path.join(HERE, "..", "..", "..", "target", "release", "palisade")


def binary():
    return os.path.abspath(os.environ.get("PALISADE_BIN") or BUILT)


class Peer(Adapter):
    name = "palisade"

    def missing(self):
        return "" if os.access(binary(), os.X_OK) else "no binary: cargo build --release, or set PALISADE_BIN"

    def version(self):
        return subprocess.run([binary(), "--version"], capture_output=True, text=True).stdout.strip()

    def _proc(self, ctx, role, command, identity, port, options):
        # A folder of policies for each process: file mode reads a whole folder.
        folder = ctx.path(f"policies-{role}")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        with open(ctx.jwks) as f:
            policies = ctx.render(f"{HERE}/{role}.yaml", JWKS_TEXT=f.read())
        shutil.move(policies, f"{folder}/policies.yaml")
        argv = [binary(), command, "--policies", folder, "--svid", f"{ctx.pki}/{identity}.crt",
                "--svid-key", f"{ctx.pki}/{identity}.key", "--roots", f"{ctx.pki}/ca.crt",
                "--admin", "127.0.0.1:0", "--workers", "1", "--log-level", "warn", *options]
        return Proc(role, argv, ("127.0.0.1", port))

    def sidecar(self, ctx):
        out = self._proc(ctx, "outbound", "proxy", "client", ctx.out_port,
                         ["--outbound-port", f"127.0.0.1:{ctx.out_port}=server.default:8080",
                          "--access-log", ctx.path("outbound.log")])
        inn = self._proc(ctx, "inbound", "proxy", "server", ctx.in_port,
                         ["--serve", f"8080,listen=127.0.0.1:{ctx.in_port},app=127.0.0.1:{ctx.backend_port}",
                          "--access-log", ctx.log])
        return Deployment(procs=[out, inn], url=f"http://127.0.0.1:{ctx.out_port}",
                          inbound_url=f"https://127.0.0.1:{ctx.in_port}", access_log=ctx.log, hop="h2",
                          note="both sides write decision records")

    def edge(self, ctx):
        credential = ctx.path("credentials/bench")
        os.makedirs(credential, exist_ok=True)
        shutil.copy(f"{ctx.pki}/server.crt", f"{credential}/tls.crt")
        shutil.copy(f"{ctx.pki}/server.key", f"{credential}/tls.key")
        edge = self._proc(ctx, "edge", "edge", "client", ctx.edge_port,
                          ["--listen", f"{ctx.edge_port},bind=127.0.0.1:{ctx.edge_port}",
                           "--credentials", ctx.path("credentials"), "--access-log", ctx.log])
        return Deployment(procs=[edge], url=f"https://127.0.0.1:{ctx.edge_port}", access_log=ctx.log,
                          note="verified tokens are remembered: RS256 and ES256 are the cost of a known token, "
                               "`new` that of one never seen")
