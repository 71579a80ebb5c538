#!/usr/bin/env python3
"""Side-by-side benchmark of mesh sidecars and edge proxies on one small machine. See README.md.

  bench.py sidecar --peers direct,envoy,nginx,haproxy --rounds 3 --json out.json
  bench.py edge    --peers envoy,nginx,haproxy        --rounds 3 --json out.json
  bench.py report  out.json                           Markdown tables of a result file
"""
import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from harness import pki                                             # noqa: E402
from harness.adapter import Adapter, Context, Deployment, Proc      # noqa: E402

BODY_1K = ("palisade-bench-" * 69)[:1024]
BIG_BYTES = 10 * 1024 * 1024
NEW_TOKENS_LUA = """local all, at = {}, 0
init = function(args)
  for token in io.lines("%s") do
    all[#all + 1] = wrk.format("GET", nil, {["Host"] = wrk.headers["Host"], ["Authorization"] = "Bearer " .. token})
  end
end
request = function()
  at = at %% #all + 1
  return all[at]
end
"""
PROBE = os.path.join(HERE, "harness", "probe.py")


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- processes, CPU and memory accounting

class Running:
    """A process that this program started, pinned to one core, stopped by its own PID."""

    def __init__(self, proc, cpus, work):
        self.role = proc.role
        argv = (["ip", "netns", "exec", proc.netns] if proc.netns else []) + [str(a) for a in proc.argv]
        out = open(proc.stdout or os.path.join(work, f"{proc.role}.out"), "ab")
        self.err_path = os.path.join(work, f"{proc.role}.stderr")
        err = open(self.err_path, "wb")
        self.p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**os.environ, **proc.env},
                                  cwd=work, start_new_session=True,
                                  preexec_fn=lambda: os.sched_setaffinity(0, cpus) if cpus else None)
        self.ready, self.netns = proc.ready, proc.netns

    def wait_ready(self, limit=15):
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if self.p.poll() is not None:
                break
            if listening(self.ready, self.p.pid):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.role} did not come up: {open(self.err_path, errors='replace').read()[-1500:]}")

    def pids(self):
        """The process and its descendants (nginx: master + worker)."""
        todo, out = [self.p.pid], []
        while todo:
            pid = todo.pop()
            out.append(pid)
            with contextlib.suppress(OSError):
                for t in os.listdir(f"/proc/{pid}/task"):
                    todo += [int(c) for c in open(f"/proc/{pid}/task/{t}/children").read().split()]
        return out

    def cpu_us(self):
        """CPU time used so far, (total, system) in microseconds: utime + stime of /proc/PID/stat, sharpened with the
        nanosecond counter of each thread where the kernel has it."""
        total = sys_t = exact = 0.0
        tick = 1e6 / os.sysconf("SC_CLK_TCK")
        for pid in self.pids():
            f = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            total += (int(f[11]) + int(f[12])) * tick
            sys_t += int(f[12]) * tick
            with contextlib.suppress(OSError):
                for t in os.listdir(f"/proc/{pid}/task"):
                    exact += int(open(f"/proc/{pid}/task/{t}/schedstat").read().split()[0]) / 1000
        return (exact if abs(exact - total) < 3 * tick * len(self.pids()) else total), sys_t

    def memory(self):
        """KiB of (RSS, PSS, anonymous memory), summed over the process tree. RSS counts the touched pages of the
        binary and shared libraries too, twice for nginx's two processes; anonymous memory is what it allocated."""
        sums = {"Rss:": 0, "Pss:": 0, "Anonymous:": 0}
        for pid in self.pids():
            for line in open(f"/proc/{pid}/smaps_rollup"):
                key = line.split()[0]
                if key in sums:
                    sums[key] += int(line.split()[1])
        return tuple(sums.values())

    def stop(self):
        if self.p.poll() is None:
            self.p.send_signal(signal.SIGTERM)
            try:
                self.p.wait(3)
            except subprocess.TimeoutExpired:
                for pid in self.pids():
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                self.p.wait(5)


def listening(addr, pid):
    """Whether something listens on addr's port in the network namespace of pid (no connection is made)."""
    want = f"{addr[1]:04X}"
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in open(f"/proc/{pid}/net/{table}").readlines()[1:]:
                f = line.split()
                if f[3] == "0A" and f[1].endswith(":" + want):
                    return True
    return False


def machine_cpu():
    """Ticks of the whole machine so far: (busy, stolen by the hypervisor, all)."""
    f = [int(x) for x in open("/proc/stat").readline().split()[1:]]
    return f[0] + f[1] + f[2] + f[5] + f[6], f[7], sum(f[:8])


def calibration_ms(cpus):
    """CPU time of a fixed piece of work (hashing, small pipe reads and writes) on the proxies' core, recorded with each
    run: shows a slower clock. It fits into the nearest caches, so it does not show a neighbour that fills the others."""
    old = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    r, w = os.pipe()
    block, small = b"x" * (1 << 20), b"y" * 1024
    t0 = time.thread_time_ns()
    for _ in range(30):
        hashlib.sha256(block).digest()
    for _ in range(15000):
        os.write(w, small)
        os.read(r, 1024)
    ms = (time.thread_time_ns() - t0) / 1e6
    os.close(r)
    os.close(w)
    os.sched_setaffinity(0, old)
    return ms


def own_cpu_us():
    """CPU of this program and of the load generators it has waited for."""
    return sum(r.ru_utime + r.ru_stime for r in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))) * 1e6


# ---------------------------------------------------------------- the bench

class Bench:
    def __init__(self, a):
        self.a = a
        self.proxy_cpus = {int(c) for c in a.proxy_cpu.split(",")} if a.proxy_cpu else None
        self.load_cpus = {int(c) for c in a.load_cpu.split(",")} if a.load_cpu else None
        self.work = a.work
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)
        pki.make_certs(self.work + "/pki")
        self.tokens = pki.make_jwts(self.work + "/jwt")
        self.ctx = Context(self.work, {
            "DIR": self.work, "PKI": self.work + "/pki", "JWT": self.work + "/jwt", "JWKS": self.work + "/jwt/jwks.json",
            "LOG": self.work + "/access.log", "BACKEND_HOST": "127.0.0.1", "BACKEND_PORT": a.port_base,
            "BACKEND_H2C_PORT": a.port_base + 1, "OUT_PORT": a.port_base + 2, "IN_PORT": a.port_base + 3,
            "EDGE_PORT": a.port_base + 4, "BODY_1K": BODY_1K,
            "CLIENT_ID": pki.CLIENT_ID, "SERVER_ID": pki.SERVER_ID, "SERVER_DNS": pki.SERVER_DNS,
            "ISSUER": pki.ISSUER, "AUDIENCE": pki.AUDIENCE})
        with open(self.work + "/big.bin", "wb") as f:
            for i in range(BIG_BYTES // 65536):
                f.write(hashlib.sha256(str(i).encode()).digest() * 2048)
        with open(self.work + "/post.lua", "w") as f:
            f.write('wrk.method = "POST"\nwrk.body = string.rep("x", 1024)\n')
        if a.what == "edge" and a.new_tokens and not a.check_only:
            say(f"signing {2 * a.new_tokens} MiB of tokens")
            for alg in ("RS256", "ES256"):
                pki.make_new_jwts(self.work + "/jwt", alg, a.new_tokens << 20)
                with open(f"{self.work}/new-{alg}.lua", "w") as f:
                    f.write(NEW_TOKENS_LUA % f"{self.work}/jwt/new-{alg}.txt")
        self.procs = []
        self.netns = ""
        taken = [p for p in range(a.port_base, a.port_base + 5) if listening(("", p), "self")]
        if taken:
            raise SystemExit(f"ports {taken} are in use by another process: choose another --port-base")

    def argv(self, *cmd):
        return (["ip", "netns", "exec", self.netns] if self.netns else []) + [str(c) for c in cmd]

    def client(self, *cmd, limit=120):
        pin = (lambda: os.sched_setaffinity(0, self.load_cpus)) if self.load_cpus else None
        r = subprocess.run(self.argv(*cmd), capture_output=True, text=True, timeout=limit, preexec_fn=pin)
        if r.returncode:
            raise RuntimeError(f"{cmd[0]} failed: {(r.stderr or r.stdout)[-600:]}")
        return r.stdout

    def get(self, url, *opts):
        return json.loads(self.client(sys.executable, PROBE, "get", url, *opts))

    # ---- start and stop

    def start(self, proc, cpus):
        r = Running(proc, cpus, self.work)
        self.procs.append(r)
        r.wait_ready()
        return r

    def start_backend(self, netns="", host="127.0.0.1"):
        cfg = self.ctx.render(f"{HERE}/backend/nginx.conf", BACKEND_HOST=host)
        nginx = os.environ.get("NGINX_BIN") or shutil.which("nginx")
        self.backend = self.start(Proc("backend", [nginx, "-c", cfg, "-e", self.work + "/backend.err"],
                                       (host, self.ctx.backend_port), netns=netns), self.load_cpus)

    def replace(self, role, proc):
        """Stop the process of a role and start another one in its place."""
        old = next(r for r in self.procs if r.role == role)
        old.stop()
        self.procs.remove(old)
        return self.start(proc, self.proxy_cpus)

    def stop_all(self):
        for r in reversed(self.procs):
            r.stop()
        self.procs = []

    # ---- load generators; each returns a dict with at least "requests"

    def wrk(self, url, secs, conns=None, headers=(), script=None):
        opts = [x for h in headers for x in ("-H", h)] + (["-s", script] if script else [])
        out = self.client("wrk", "-t1", f"-c{conns or self.a.connections}", f"-d{secs}s", "--timeout", "10s", *opts, url)
        n = int(re.search(r"(\d+) requests in", out)[1])
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
        err = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
        bad = (int(bad[1]) if bad else 0) + (sum(map(int, err.groups())) if err else 0)
        return {"requests": n, "bad": bad, "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])}

    def h2load(self, url, secs, headers=()):
        opts = [x for h in headers for x in ("-H", h)]
        out = self.client("h2load", "-t1", "-c8", "-m4", "-D", secs, *opts, url)
        m = re.search(r"requests: (\d+) total.*?(\d+) done, (\d+) succeeded, (\d+) failed", out)
        return {"requests": int(m[3]), "bad": int(m[2]) - int(m[3]), "rps": int(m[3]) / secs}

    def oha(self, url, secs, headers=()):
        """Open loop at a fixed rate; latency counted from when a request was due (no coordinated omission)."""
        opts = [x for h in headers for x in ("-H", h)]
        oha = os.environ.get("OHA_BIN") or shutil.which("oha") or os.environ.get("PEERS_DIR", "/tmp/peers") + "/oha/bin/oha"
        out = self.client(oha, "--no-tui", "--output-format", "json", "-q", self.a.rate, "-c", self.a.connections, "-w",
                          "-z", f"{secs}s", "--latency-correction", "--disable-compression", "--insecure", *opts, url)
        j = json.loads(out)
        codes = j["statusCodeDistribution"]
        lat = j["latencyPercentiles"]
        return {"requests": sum(codes.values()), "bad": sum(v for k, v in codes.items() if k != "200"),
                "p50": lat["p50"] * 1e6, "p99": lat["p99"] * 1e6, "p999": lat["p99.9"] * 1e6}

    def wait_quiet(self):
        """Wait (at most --quiet-wait seconds) until other programs leave the CPU alone for a moment."""
        end = time.monotonic() + self.a.quiet_wait
        while time.monotonic() < end:
            m0, t0 = machine_cpu()[0], time.monotonic()
            time.sleep(1)
            if (machine_cpu()[0] - m0) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - t0) < 0.06:
                return

    def measured(self, label, load, *args, log=False, **kw):
        """Run a load; its result plus CPU microseconds a request for each proxy process (and backend). A run during
        which other programs on the machine used the CPU is repeated; the least disturbed one counts. With log, the
        access log must have grown by one line a request."""
        best = None
        for attempt in range(self.a.retries + 1):
            self.wait_quiet()
            self.truncate_log()
            res = self.measured_once(label, load, *args, **kw)
            if log:
                time.sleep(1.3)
                res["log_lines_per_request"] = sum(1 for _ in open(self.ctx.log, "rb")) / res["requests"]
                if not 0.98 < res["log_lines_per_request"] < 1.05:
                    raise RuntimeError(f"access log lines a request: {res['log_lines_per_request']:.3f}")
            if best is None or res["foreign_cpu_pct"] < best["foreign_cpu_pct"]:
                best = res
            if best["foreign_cpu_pct"] <= self.a.max_foreign:
                break
            say(f"  {label}: other programs used {res['foreign_cpu_pct']:.1f}% of a core"
                + (", again" if attempt < self.a.retries else ""))
        self.truncate_log()
        return best

    def measured_once(self, label, load, *args, **kw):
        speed = calibration_ms(self.proxy_cpus)
        before = {r.role: r.cpu_us() for r in self.procs}
        m0, own0, t0 = machine_cpu(), own_cpu_us(), time.monotonic()
        res = load(*args, **kw)
        m1, own1, t1 = machine_cpu(), own_cpu_us(), time.monotonic()
        after = {r.role: r.cpu_us() for r in self.procs}
        speed = (speed + calibration_ms(self.proxy_cpus)) / 2
        n = res["requests"]
        if not n or res["bad"] > n * 0.0001:
            raise RuntimeError(f"{label}: {res['bad']} bad of {n}")
        used = {role: after[role][0] - before[role][0] for role in after}
        system = {role: after[role][1] - before[role][1] for role in after}
        proxies = [r for r in used if r != "backend"]
        res["cpu_us"] = {role: used[role] / n for role in used}
        res["cpu_us_total"] = sum(used[r] for r in proxies) / n
        res["calibration_ms"] = speed
        res["cpu_s"] = sum(used[r] for r in proxies) / 1e6
        res["sys_share"] = sum(system[r] for r in proxies) / max(1, sum(used[r] for r in proxies))
        busy_us = (m1[0] - m0[0]) * 1e6 / os.sysconf("SC_CLK_TCK")
        res["foreign_cpu_pct"] = max(0.0, 100 * (busy_us - sum(used.values()) - (own1 - own0)) / ((t1 - t0) * 1e6))
        res["steal_pct"] = 100 * (m1[1] - m0[1]) / max(1, m1[2] - m0[2])
        return res

    def idle_conns(self, url, count, role, *opts):
        """RSS of one role before and while COUNT keep-alive clients that made one request each sit idle."""
        target = next(r for r in self.procs if r.role == role)
        before = target.memory()[0]
        pin = (lambda: os.sched_setaffinity(0, self.load_cpus)) if self.load_cpus else None
        p = subprocess.Popen(self.argv(sys.executable, PROBE, "idle", url, count, *opts), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, preexec_fn=pin)
        if p.stdout.readline().strip() != "READY":
            raise RuntimeError(f"idle connections to {role} failed")
        time.sleep(1)
        held = target.memory()[0]
        others = {r.role: r.memory()[0] for r in self.procs if r.role not in (role, "backend")}
        p.stdin.write("\n")
        p.stdin.flush()
        end = json.loads(p.stdout.readline())
        p.wait(10)
        if end["bad"]:
            raise RuntimeError(f"idle connections: {end}")
        time.sleep(0.5)
        return {"rss_before": before, "rss_held": held, "kib_per_conn": (held - before) / count,
                "meanwhile": others}

    def handshakes(self, url, count, *opts):
        r = json.loads(self.client(sys.executable, PROBE, "handshakes", url, count, *opts))
        if r["resumed"]:
            raise RuntimeError(f"not full handshakes: {r}")
        return {"requests": r["count"], "bad": r["bad"], "per_s": r["count"] / r["seconds"]}

    # ---- checks: a peer that does not enforce is not timed

    def check(self, name, ok, detail):
        self.checks[name] = "ok" if ok else f"FAILED {detail}"

    def good(self, r, body=BODY_1K.encode()):
        return r.get("status") == 200 and r["sha"] == hashlib.sha256(body).hexdigest()

    def wait_good(self, url, *opts):
        end = time.monotonic() + 8
        r = self.get(url, *opts)
        while not self.good(r) and time.monotonic() < end:
            time.sleep(0.2)
            r = self.get(url, *opts)
        return r

    def check_log(self, url, features, *opts):
        if "request-log" not in features:
            self.checks["log line per request"] = "skipped (peer logs connections)"
            return
        tag = f"log-{time.monotonic_ns()}"
        for _ in range(5):
            self.get(f"{url}/api/{tag}", *opts)
        end, lines = time.monotonic() + 4, []
        while len(lines) < 5 and time.monotonic() < end:
            time.sleep(0.2)
            lines = [x for x in open(self.ctx.log, errors="replace") if tag in x]
        try:
            ok = len([json.loads(x) for x in lines]) == 5
        except ValueError as e:
            ok, lines = False, [str(e)] + lines
        self.check("log line per request", ok, f"{len(lines)} lines {lines[:1]}")

    def check_rogue_servers(self, d):
        """The outbound proxy must not send a request to a server of another CA or with another identity."""
        for cert in ("rogueserver", "intruder"):
            got = []
            ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ctx.load_cert_chain(f"{self.work}/pki/{cert}.pem")
            ctx.set_alpn_protocols(["h2", "http/1.1"])
            lst = socket.create_server(("127.0.0.1", self.ctx.in_port))
            lst.settimeout(0.2)
            stop = threading.Event()

            def serve():
                while not stop.is_set():
                    try:
                        raw, _ = lst.accept()
                        raw.settimeout(2)
                        with ctx.wrap_socket(raw, server_side=True) as s:
                            data = s.recv(4096)
                            if data:
                                got.append(data)
                    except OSError:
                        pass
            t = threading.Thread(target=serve)
            t.start()
            r = self.get(d.url + "/api/hello")
            stop.set()
            t.join()
            lst.close()
            what = "server of another CA refused" if cert == "rogueserver" else "server with wrong identity refused"
            self.check(what, r.get("status", 599) >= 500 and not got, f"{r} {got[:1]}")

    def check_sidecar(self, d):
        f, ca, P = d.features, ("--ca", f"{self.work}/pki/ca.crt"), f"{self.work}/pki"
        r = self.wait_good(d.url + "/api/hello")
        self.check("GET through the pair: 200, right body", self.good(r), r)
        r = self.get(d.url + "/api/hello", "--method", "POST", "--body", "1024")
        self.check("POST through the pair: 200, right body", self.good(r), r)
        big = open(f"{self.work}/big.bin", "rb").read()
        r = self.get(d.url + "/api/big")
        self.check("10 MiB through the pair: right body", self.good(r, big), r)
        if "l7-authz" in f:
            r = self.get(d.url + "/admin/x")
            self.check("denied path: 403", r.get("status") == 403, r)
            r = self.get(d.url + "/api/hello", "--method", "DELETE")
            self.check("denied method: 403", r.get("status") == 403, r)
        else:
            self.checks["denied path and method"] = "skipped (L4 only)"
        if "pki" in f:
            i = d.inbound_url + "/api/hello"
            r = self.get(i, "--cert", f"{P}/client.pem", *ca)
            self.check("direct mTLS with the right identity: 200 over TLSv1.3",
                       self.good(r) and r["tls"] == "TLSv1.3", r)

            def refused(r):
                return r.get("status", 599) >= 400
            r = self.get(i, *ca)
            self.check("no client certificate: refused", refused(r), r)
            r = self.get(i, "--cert", f"{P}/rogueclient.pem", *ca)
            self.check("client certificate of another CA: refused", refused(r), r)
            r = self.get(i, "--cert", f"{P}/intruder.pem", *ca)
            self.check("wrong identity of the right CA: 403 or refused", refused(r), r)
            r = self.get(i, "--cert", f"{P}/client.pem", *ca, "--tls-max", "1.2")
            self.check("TLS 1.2: refused", "error" in r, r)
            r = self.get(i.replace("https", "http"))
            self.check("plaintext to the inbound proxy: refused", refused(r), r)
        else:
            r = self.get(d.inbound_url, "--h2")
            self.check("no client certificate: refused", r.get("status", 599) >= 400, r)
            r = self.get(d.inbound_url, "--h2", "--cert", f"{P}/rogueclient.pem")
            self.check("client certificate of another CA: refused", r.get("status", 599) >= 400, r)
        self.check_log(d.url, f)
        if d.extra_checks:
            d.extra_checks(self, d)

    def check_edge(self, d):
        u = d.url + "/api/hello"

        def auth(tok):
            return ("--header", f"Authorization:Bearer {tok}")
        good = {alg: self.wait_good(u, *auth(self.tokens[alg])) for alg in ("RS256", "ES256")}
        for alg, r in good.items():
            self.check(f"{alg} token: 200, right body, TLSv1.3", self.good(r) and r["tls"] == "TLSv1.3", r)
        if "jwt" in d.features:
            r = self.get(u)
            self.check("no token: 401", r.get("status") == 401, r)
            for bad in ("expired", "wrong-key", "tampered", "alg-none", "garbage", "wrong-issuer", "wrong-audience"):
                r = self.get(u, *auth(self.tokens[bad]))
                want = (401, 403) if bad in ("wrong-issuer", "wrong-audience") else (401,)
                self.check(f"{bad} token: {' or '.join(map(str, want))}", r.get("status") in want, r)
        else:
            self.checks["bad tokens"] = "skipped (peer has no JWT validation: TLS-only)"
        r = self.get(d.url + "/public/hello")
        self.check("public path without token: 200", self.good(r), r)
        self.check_log(d.url, d.features, *auth(self.tokens["RS256"]))

    # ---- topologies

    def bring_up(self, peer, topology):
        self.checks = {}
        d = getattr(peer, topology)(self.ctx)
        if d is None:
            return None
        if d.setup:
            d.setup()
        self.netns = d.client_netns
        open(self.ctx.log, "w").close()
        if not isinstance(peer, Direct) and d.procs:
            backend_ns = [p.netns for p in d.procs if p.role == "inbound"]
            self.start_backend(backend_ns[0] if backend_ns else "", "0.0.0.0" if backend_ns and backend_ns[0] else "127.0.0.1")
        else:
            self.start_backend()
        for n, p in enumerate(d.procs):
            self.start(p, self.proxy_cpus)
            if topology == "sidecar" and n == 0 and "pki" in d.features and "server-id" in d.features:
                self.check_rogue_servers(d)
        return d

    def memory_idle(self, out):
        time.sleep(0.5 if self.a.quick else 2)
        for r in self.procs:
            if r.role != "backend":
                out[f"rss_idle_{r.role}"], out[f"pss_idle_{r.role}"], out[f"anon_idle_{r.role}"] = r.memory()

    def mtls_handshakes(self, d):
        h = self.measured("handshakes", self.handshakes, d.inbound_url + "/api/hello", self.a.handshakes, "--cert",
                          f"{self.work}/pki/client.pem", *(["--h2"] if d.inbound_alpn == "h2" else []))
        h["per_cpu_s"] = 1e6 / h["cpu_us"]["inbound"]
        return h

    def sidecar(self, peer, d):
        a, out = self.a, {}
        direct = isinstance(peer, Direct)
        if not direct:
            self.memory_idle(out)
            self.check_sidecar(d)
            self.must_pass()
        if not direct and not a.quick:
            out["idle1000_outbound"] = self.idle_conns(d.url + "/api/hello", a.idle, "outbound")
            if d.inbound_alpn == "http/1.1":
                out["idle1000_inbound"] = self.idle_conns(d.inbound_url + "/api/hello", a.idle, "inbound",
                                                          "--cert", f"{self.work}/pki/client.pem")
        self.wrk(d.url + "/api/hello", 2)
        out["get1k"] = self.measured("closed loop", self.wrk, d.url + "/api/hello", a.seconds,
                                     log="request-log" in d.features)
        out["post1k"] = self.measured("POST", self.wrk, d.url + "/api/hello", a.seconds - 2, script=self.work + "/post.lua")
        if a.quick:
            if "pki" in d.features:
                out["handshake"] = self.mtls_handshakes(d)
            return out
        out["fixed_rate"] = self.measured("fixed rate", self.oha, d.url + "/api/hello", a.latency_seconds)
        big = self.measured("big body", self.wrk, d.url + "/api/big", max(3, a.seconds - 2), conns=4)
        big["mb_s"] = big["rps"] * BIG_BYTES / 1e6
        if not direct:
            big["mb_per_cpu_s"] = big["requests"] * BIG_BYTES / 1e6 / big["cpu_s"]
            if "pki" in d.features:
                out["handshake"] = self.mtls_handshakes(d)
            for r in self.procs:
                if r.role != "backend":
                    out[f"rss_after_{r.role}"] = r.memory()[0]
        out["big"] = big
        return out

    def edge(self, peer, d):
        a, out = self.a, {}
        self.memory_idle(out)
        self.check_edge(d)
        self.must_pass()
        if not a.quick:
            out["idle1000_edge"] = self.idle_conns(d.url + "/public/hello", a.idle, "edge")
        tok = {alg: (f"Authorization: Bearer {self.tokens[alg]}",) for alg in ("RS256", "ES256")}
        self.wrk(d.url + "/api/hello", 2, headers=tok["RS256"])
        loads = [("none", "/public/hello", ())]
        if "jwt" in d.features:
            loads += [(alg, "/api/hello", tok[alg]) for alg in ("RS256", "ES256")]
        for name, path, head in loads:
            out[f"h1_{name}"] = self.measured(f"h1 {name}", self.wrk, d.url + path, a.seconds, headers=head)
            out[f"h2_{name}"] = self.measured(f"h2 {name}", self.h2load, d.url + path, a.seconds, headers=head)
            if a.new_tokens and name != "none":
                out[f"h1_{name}_new"] = self.measured(f"h1 {name} new", self.wrk, d.url + path, a.seconds,
                                                      script=f"{self.work}/new-{name}.lua")
        if a.quick:
            out["handshake"] = self.edge_handshakes(d)
            return out
        name, path, head = loads[min(1, len(loads) - 1)]
        out["fixed_rate"] = self.measured("fixed rate", self.oha, d.url + path, a.latency_seconds, headers=head)
        out["handshake"] = self.edge_handshakes(d)
        out["rss_after_edge"] = next(r for r in self.procs if r.role == "edge").memory()[0]
        return out

    def edge_handshakes(self, d):
        h = self.measured("handshakes", self.handshakes, d.url + "/public/hello", self.a.handshakes)
        h["per_cpu_s"] = 1e6 / h["cpu_us"]["edge"]
        return h

    def truncate_log(self):
        with contextlib.suppress(OSError):
            os.truncate(self.ctx.log, 0)

    def must_pass(self):
        bad = {k: v for k, v in self.checks.items() if v.startswith("FAILED")}
        if bad:
            raise RuntimeError("does not enforce, not timed: " + json.dumps(bad, indent=1))

    def one(self, topology, peer):
        """One round of one peer."""
        d = None
        self.checks = {}
        try:
            d = self.bring_up(peer, topology)
            if d is None:
                return None
            res = getattr(self, topology)(peer, d)
            res.update(checks=self.checks, hop=d.hop, note=d.note)
            return res
        except (RuntimeError, subprocess.TimeoutExpired) as e:
            return {"error": str(e), "checks": self.checks}
        finally:
            self.stop_all()
            self.netns = ""
            if d and d.teardown:
                d.teardown()


class Direct(Adapter):
    """The floor: the client straight to the backend."""
    name = "direct"

    def version(self):
        return "no proxy"

    def sidecar(self, ctx):
        return Deployment(procs=[], url=f"http://127.0.0.1:{ctx.backend_port}", access_log="", features=frozenset(),
                          hop="-")


def load_peer(spec):
    name, _, variant = spec.partition(":")
    if name == "direct":
        return Direct()
    path = f"{HERE}/peers/{name}/adapter.py"
    if not os.path.exists(path):
        raise SystemExit(f"no adapter {path}")
    s = importlib.util.spec_from_file_location(f"peer_{name}", path)
    m = importlib.util.module_from_spec(s)
    s.loader.exec_module(m)
    return m.Peer(variant)


# ---------------------------------------------------------------- results

def flatten(d, prefix=""):
    for k, v in d.items():
        if isinstance(v, dict) and k != "checks":
            yield from flatten(v, f"{prefix}{k}.")
        elif isinstance(v, (int, float)) and not isinstance(v, bool):
            yield f"{prefix}{k}", v


def summarize(rounds):
    """metric -> [median, min, max] over the rounds that went through."""
    vals = {}
    for r in rounds:
        if r and "error" not in r:
            for k, v in flatten(r):
                vals.setdefault(k, []).append(v)
    return {k: [statistics.median(v), min(v), max(v)] for k, v in vals.items()}


SIDECAR_COLUMNS = [  # heading, metric, scale, digits
    ("req/s, 32 conns", "get1k.rps", 1, 0), ("**CPU µs/req pair**", "get1k.cpu_us_total", 1, 1),
    ("lowest", "get1k.cpu_us_total#min", 1, 1), ("outbound", "get1k.cpu_us.outbound", 1, 1), ("inbound", "get1k.cpu_us.inbound", 1, 1),
    ("system share", "get1k.sys_share", 100, 0), ("POST 1k CPU µs/req", "post1k.cpu_us_total", 1, 1),
    ("p50 µs @rate", "fixed_rate.p50", 1, 0), ("p99 µs", "fixed_rate.p99", 1, 0), ("p99.9 µs", "fixed_rate.p999", 1, 0),
    ("CPU µs/req @rate", "fixed_rate.cpu_us_total", 1, 0),
    ("big body MB/CPU-s", "big.mb_per_cpu_s", 1, 0), ("big MB/s", "big.mb_s", 1, 0)]
SIDECAR_MEMORY = [
    ("idle RSS out MiB", "rss_idle_outbound", 1 / 1024, 1), ("idle RSS in MiB", "rss_idle_inbound", 1 / 1024, 1),
    ("idle anonymous out MiB", "anon_idle_outbound", 1 / 1024, 1), ("in MiB ", "anon_idle_inbound", 1 / 1024, 1),
    ("1000 idle plaintext clients: out MiB", "idle1000_outbound.rss_held", 1 / 1024, 1),
    ("KiB/conn", "idle1000_outbound.kib_per_conn", 1, 1),
    ("meanwhile in MiB", "idle1000_outbound.meanwhile.inbound", 1 / 1024, 1),
    ("1000 idle mTLS clients: in MiB", "idle1000_inbound.rss_held", 1 / 1024, 1),
    ("KiB/conn ", "idle1000_inbound.kib_per_conn", 1, 1),
    ("RSS after load out MiB", "rss_after_outbound", 1 / 1024, 1), ("in MiB", "rss_after_inbound", 1 / 1024, 1),
    ("full mTLS handshakes per CPU-s (inbound)", "handshake.per_cpu_s", 1, 0),
    ("CPU µs each", "handshake.cpu_us.inbound", 1, 0)]
EDGE_COLUMNS = [(f"{p} {t}", f"{p}_{t}.cpu_us_total", 1, 1) for t in ("none", "RS256", "ES256") for p in ("h1", "h2")] + \
               [(f"{p} {t} req/s", f"{p}_{t}.rps", 1, 0) for t in ("none", "RS256", "ES256") for p in ("h1", "h2")]
EDGE_NEW = [(f"{t}, {what}", f"h1_{t}{key}.{metric}", 1, digits) for t in ("RS256", "ES256")
            for what, key, metric, digits in (("new token", "_new", "cpu_us_total", 1), ("known token", "", "cpu_us_total", 1),
                                              ("new token, req/s", "_new", "rps", 0))]
EDGE_MORE = [
    ("p50 µs @rate", "fixed_rate.p50", 1, 0), ("p99 µs", "fixed_rate.p99", 1, 0), ("p99.9 µs", "fixed_rate.p999", 1, 0),
    ("CPU µs/req @rate", "fixed_rate.cpu_us_total", 1, 0), ("idle RSS MiB", "rss_idle_edge", 1 / 1024, 1),
    ("idle anonymous MiB", "anon_idle_edge", 1 / 1024, 1),
    ("1000 idle TLS clients MiB", "idle1000_edge.rss_held", 1 / 1024, 1),
    ("KiB/conn", "idle1000_edge.kib_per_conn", 1, 1), ("RSS after load MiB", "rss_after_edge", 1 / 1024, 1),
    ("full TLS handshakes per CPU-s", "handshake.per_cpu_s", 1, 0), ("CPU µs each", "handshake.cpu_us.edge", 1, 0)]


def table(title, columns, peers):
    """Medians; in brackets (min to max) where the rounds differ by more than a tenth of the median."""
    print(f"\n### {title}\n")
    heads = [c[0].strip() for c in columns]
    print("| peer | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 1))
    for name, p in peers.items():
        cells = []
        for _, key, scale, digits in columns:
            v = p["summary"].get(key.removesuffix("#min"))
            if not v:
                cells.append("–")
                continue
            med, lo, hi = (x * scale for x in v)
            if key.endswith("#min"):  # noise from neighbours only adds: the lowest round is nearest to the true cost
                med = hi = lo
            text = f"{med:,.{digits}f}"
            if hi - lo > 0.1 * abs(med):
                text += f" ({lo:,.{digits}f}–{hi:,.{digits}f})"
            cells.append(text)
        print(f"| {name}{' (' + p['hop'] + ')' if p.get('hop') else ''} | " + " | ".join(cells) + " |")


RATIOS = {"sidecar": [("CPU µs/req", "get1k.cpu_us_total"), ("POST 1k CPU", "post1k.cpu_us_total"),
                      ("CPU @rate", "fixed_rate.cpu_us_total"), ("p50 @rate", "fixed_rate.p50"),
                      ("p99 @rate", "fixed_rate.p99"), ("req/s", "get1k.rps"), ("MB/CPU-s", "big.mb_per_cpu_s"),
                      ("handshakes/CPU-s", "handshake.per_cpu_s"), ("idle RSS in", "rss_idle_inbound")],
          "edge": [(f"{p} {t} CPU", f"{p}_{t}.cpu_us_total") for t in ("none", "RS256", "ES256") for p in ("h1", "h2")] +
                  [("p99 @rate", "fixed_rate.p99"), ("handshakes/CPU-s", "handshake.per_cpu_s"), ("idle RSS", "rss_idle_edge")]}


def ratio_table(topology, peers, reference):
    """Each peer over the reference, taken within each round (so that a slow minute of the machine cancels out);
    median of those ratios, and their range."""
    if reference not in peers:
        return
    flat = {n: [dict(flatten(r)) for r in p["rounds"]] for n, p in peers.items()}
    print(f"\n### Ratio to {reference} in the same round, median (lowest–highest)\n")
    have = {k for rounds in flat.values() for r in rounds for k in r}
    cols = [c for c in RATIOS[topology.split("-")[0]] if c[1] in have]
    print("| peer | " + " | ".join(c for c, _ in cols) + " |\n|" + "---|" * (len(cols) + 1))
    for n in peers:
        cells = []
        for _, key in cols:
            rs = sorted(a[key] / b[key] for a, b in zip(flat[n], flat[reference]) if a.get(key) and b.get(key))
            cells.append(f"{statistics.median(rs):.2f} ({rs[0]:.2f}–{rs[-1]:.2f})" if rs else "–")
        print(f"| {n} | " + " | ".join(cells) + " |")


def report(data):
    for topology, t in data["topologies"].items():
        peers = t["peers"]
        print(f"\n## {topology}: medians of {t['rounds']} rounds, interleaved\n")
        if topology == "sidecar-quick":
            table("CPU only (many short rounds)", [c for c in SIDECAR_COLUMNS if c[1].startswith(("get1k", "post1k"))] +
                  [c for c in SIDECAR_MEMORY if c[1].startswith("handshake")], peers)
        elif topology == "sidecar":
            table("Requests (GET, 1 KiB response; fixed rate " + str(t["args"]["rate"]) + " req/s)", SIDECAR_COLUMNS, peers)
            table("Memory and handshakes", SIDECAR_MEMORY, peers)
        else:
            table("CPU µs a request of the edge proxy, and closed-loop req/s, by client protocol and token",
                  EDGE_COLUMNS, peers)
            if t["args"].get("new_tokens"):
                table("CPU µs a request where every token is new, HTTP/1.1", EDGE_NEW, peers)
            quick = topology == "edge-quick"
            table("Handshakes" if quick else "Latency, memory, handshakes", EDGE_MORE[-2:] if quick else EDGE_MORE, peers)
        ratio_table(topology, peers, t["args"].get("reference", "envoy"))
        print()
        for name, p in peers.items():
            print(f"- {name}: {p['version']}" + (f"; {p['note']}" if p.get("note") else ""))
            for e in p.get("errors", []):
                print(f"  - NOT TIMED in a round: {e[:400]}")


def meta():
    cpu = next(x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name"))
    return {"machine": f"{os.cpu_count()} cores {cpu}", "kernel": platform.release(),
            "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime())}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["sidecar", "edge", "report"])
    p.add_argument("file", nargs="?", help="report: the result file")
    p.add_argument("--peers", default="direct,envoy,nginx,haproxy")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--json", help="write (or merge into) this result file")
    p.add_argument("--seconds", type=int, default=6, help="length of each closed-loop run")
    p.add_argument("--latency-seconds", type=int, default=12)
    p.add_argument("--connections", type=int, default=32)
    p.add_argument("--reference", default="envoy", help="peer that the ratio table divides by")
    p.add_argument("--rate", type=int, default=1000, help="req/s of the fixed-rate run")
    p.add_argument("--idle", type=int, default=1000)
    p.add_argument("--handshakes", type=int, default=1500)
    p.add_argument("--proxy-cpu", default="0", help="cores of the proxies ('' = no pinning)")
    p.add_argument("--load-cpu", default="1", help="cores of clients and backend")
    p.add_argument("--quick", action="store_true", help="only the closed-loop runs and handshakes (many rounds)")
    p.add_argument("--new-tokens", type=int, default=0, metavar="MIB",
                   help="edge: also measure tokens that are new to the proxy; MiB of them for each algorithm")
    p.add_argument("--port-base", type=int, default=27100, help="five ports from here, on 127.0.0.1")
    p.add_argument("--max-foreign", type=float, default=4, help="percent of a core other programs may use in a run")
    p.add_argument("--quiet-wait", type=int, default=60, help="seconds to wait for a quiet machine before each run")
    p.add_argument("--retries", type=int, default=3, help="repeats of a run disturbed by other programs")
    p.add_argument("--work", default="/dev/shm/palisade-bench")
    p.add_argument("--check-only", action="store_true", help="run the correctness checks, measure nothing")
    a = p.parse_args()
    if a.what == "report":
        return report(json.load(open(a.file)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    peers = {}
    for spec in a.peers.split(","):
        peer = load_peer(spec)
        if peer.missing():
            say(f"{spec}: left out: {peer.missing()}")
        elif getattr(type(peer), a.what) is not Adapter.__dict__[a.what]:
            peers[spec] = peer
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the proxies are stopped
    bench = Bench(a)
    results = {spec: [] for spec in peers}
    try:
        for rnd in range(1 if a.check_only else a.rounds):
            for spec, peer in peers.items():
                t0 = time.monotonic()
                if a.check_only:
                    r = check_only(bench, a.what, peer)
                else:
                    r = bench.one(a.what, peer)
                if r is None:
                    continue
                results[spec].append(r)
                head = r.get("error") or ", ".join(
                    f"{k} {v:.4g}" for k, v in flatten(r) if k in ("get1k.rps", "get1k.cpu_us_total", "fixed_rate.p99",
                                                                   "h1_RS256.cpu_us_total", "h1_none.cpu_us_total"))
                say(f"round {rnd + 1} {spec}: {head} [{time.monotonic() - t0:.0f} s]")
            if not a.check_only:
                block_of(a, peers, results)  # so that an interrupted run leaves what it has
    finally:
        bench.stop_all()
        shutil.rmtree(a.work, ignore_errors=True)
    if a.check_only:
        failed = [spec for spec in a.peers.split(",") if not all("error" not in r for r in results.get(spec) or [{"error": 1}])]
        return say(f"checks failed: {', '.join(failed)}") or 1 if failed else 0
    print_block, kind = block_of(a, peers, results)
    report({"topologies": {kind: print_block}})


def block_of(a, peers, results):
    """The results so far as a block of the result file, written to --json."""
    data = {"topologies": {}}
    if a.json and os.path.exists(a.json):
        data = json.load(open(a.json))
    data["meta"] = meta()
    kind = a.what + ("-quick" if a.quick else "")
    block = data["topologies"].setdefault(kind, {"peers": {}})
    block.update(rounds=a.rounds, date=data["meta"]["date"], args={k: v for k, v in vars(a).items() if k not in ("json", "file")})
    for spec, rounds in results.items():
        if rounds:
            last = next((r for r in rounds if "error" not in r), rounds[-1])
            block["peers"][spec] = {
                "version": peers[spec].version(), "hop": last.get("hop", ""), "note": last.get("note", ""),
                "checks": last.get("checks", {}), "errors": [r["error"] for r in rounds if "error" in r],
                "summary": summarize(rounds),
                "rounds": [{k: v for k, v in r.items() if k != "checks"} for r in rounds]}
    if a.json:
        with open(a.json + ".tmp", "w") as f:
            json.dump(data, f, indent=1)
        os.replace(a.json + ".tmp", a.json)
    return block, kind


def check_only(bench, topology, peer):
    if isinstance(peer, Direct):
        return None
    d = None
    try:
        d = bench.bring_up(peer, topology)
        if d is None:
            return None
        getattr(bench, f"check_{topology}")(d)
        for k, v in bench.checks.items():
            say(f"  {v[:300]:8} {k}")
        bad = [k for k, v in bench.checks.items() if not v.startswith(("ok", "skip"))]
        return {"error": ", ".join(bad)} if bad else {}
    except RuntimeError as e:
        return {"error": str(e)}
    finally:
        bench.stop_all()
        bench.netns = ""
        if d and d.teardown:
            d.teardown()


if __name__ == "__main__":
    sys.exit(main())
