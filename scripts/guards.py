"""Switches the guards of tests/guards.toml off, one at a time, in a copy of the tree: scripts/guards.sh runs it.

Building once for each guard would take hours. So all guards whose two texts are expressions or statements are
compiled in together, each as `if <this one is off> { new } else { old }`, and which one is off is read when a test
runs. Without any off, every test must pass in that very build; so what makes a test fail is its guard alone. The
others are built one by one. Nothing is written outside of the folder that is the first argument.
"""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

# Some guards are all that ends a test.
TEST_WITHIN = 120
SWITCH = """
/// Whether scripts/guards.py has this guard switched off.
pub fn guard_is_off(name: &str) -> bool {
    static OFF: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    OFF.get_or_init(|| std::fs::read_to_string("@OFF@").unwrap_or_default()) == name
}
"""


class Stop(Exception):
    """Something is wrong with the list or with this machine; nothing was learnt about a guard."""


def wanted(names):
    """The guards of the list, or those that are named."""
    guards = tomllib.loads(Path("tests/guards.toml").read_text())["guard"]
    unknown = set(names) - {guard["name"] for guard in guards}
    if unknown:
        raise Stop(f"no such guards: {', '.join(sorted(unknown))}")
    return [guard for guard in guards if not names or guard["name"] in names]


def place(guard, source):
    """Where in its file a guard stands."""
    if source.count(guard["old"]) != 1:
        raise Stop(f"{guard['name']}: its old text must stand once in {guard['file']}")
    start = source.index(guard["old"])
    return start, start + len(guard["old"])


def switched(guard):
    """Both texts of a guard, behind its switch."""
    old, new = guard["old"], guard["new"]
    common = os.path.commonprefix([old, new])
    mark = " = " if old.startswith("let ") else "=> "
    outside = common.rfind(mark) + len(mark) if mark in common else 0
    before, old, new = old[:outside], old[outside:], new[outside:]
    statement = not new or old.endswith((";", "}"))
    left, right = "{}" if statement else "()"
    return f'{before}{left}if crate::guard_is_off("{guard["name"]}") {{ {new} }} else {{ {old} }}{right}'


def rounds(guards, sources):
    """Guards that can be built together: first those with a switch that do not overlap, then one by one."""
    together = []
    for guard in (guard for guard in guards if not guard.get("alone")):
        start, end = place(guard, sources[guard["file"]])
        for taken in together:
            spans = (place(other, sources[other["file"]]) for other in taken if other["file"] == guard["file"])
            if all(end <= s or e <= start for s, e in spans):
                taken.append(guard)
                break
        else:
            together.append([guard])
    return together + [[guard] for guard in guards if guard.get("alone")]


def mutated(taken, sources):
    """The sources with these guards behind switches, or the only one of them off."""
    changed = dict(sources)
    if len(taken) == 1 and taken[0].get("alone"):
        guard = taken[0]
        start, end = place(guard, sources[guard["file"]])
        changed[guard["file"]] = sources[guard["file"]][:start] + guard["new"] + sources[guard["file"]][end:]
        return changed
    for guard in sorted(taken, key=lambda guard: place(guard, sources[guard["file"]])[0], reverse=True):
        start, end = place(guard, sources[guard["file"]])
        text = changed[guard["file"]]
        changed[guard["file"]] = text[:start] + switched(guard) + text[end:]
    return changed


class Bench:
    """The copy of the tree, and what was built from it."""

    def __init__(self, folder):
        self.tree, self.target, self.off = folder / "tree", folder / "target", folder / "off"
        self.tree.mkdir(parents=True, exist_ok=True)
        self.off.write_text("")
        self.loaded = False
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True, capture_output=True
        )
        names = {name for name in listed.stdout.decode().split("\0") if name and Path(name).is_file()}
        for path in [path for path in self.tree.rglob("*") if path.is_file()]:
            if str(path.relative_to(self.tree)) not in names:
                path.unlink()
        self.sources = {}
        for name in names:
            content = Path(name).read_bytes()
            if name.startswith("src/") and name.endswith(".rs"):
                self.sources[name] = content.decode()
            else:
                self.write(name, content)

    def write(self, name, content):
        """Leaves a file alone that is as it should be: cargo looks at times."""
        path = self.tree / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def build(self, sources, binaries):
        """Builds test binaries of these sources. Gives where they are."""
        for name, text in sources.items():
            if name == "src/lib.rs":
                text += SWITCH.replace("@OFF@", str(self.off))
            self.write(name, text.encode())
        targets = [part for name in sorted(binaries) for part in (["--lib"] if name == "lib" else ["--test", name])]
        environment = dict(
            os.environ,
            CARGO_TARGET_DIR=str(self.target),
            CARGO_INCREMENTAL="1",
            RUST_BACKTRACE="0",
            CARGO_PROFILE_DEV_DEBUG="0",
            CARGO_PROFILE_TEST_DEBUG="0",
        )
        if "it" in binaries and not self.loaded:
            # Its tests load this library, which has nothing of ours in it.
            self.cargo(["build", "--example", "sk_authenticator"], environment)
            self.loaded = True
        found = {}
        for message in self.cargo(["test", "--no-run", *targets], environment):
            if message.get("executable") and message["profile"]["test"]:
                kind = "lib" if "lib" in message["target"]["kind"] else message["target"]["name"]
                found[kind] = message["executable"]
        return {name: found[name] for name in binaries}

    def cargo(self, arguments, environment):
        """Gives what cargo tells of what it built."""
        command = ["cargo", *arguments, "--locked", "--message-format=json"]
        built = subprocess.run(command, cwd=self.tree, env=environment, capture_output=True)
        messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith(b"{")]
        if built.returncode != 0:
            errors = [m["message"]["rendered"] for m in messages if (m.get("message") or {}).get("level") == "error"]
            raise Stop("it does not compile:\n" + ("".join(errors) or built.stderr.decode()))
        return messages

    def passes(self, binary, tests):
        """Runs tests. Gives whether all passed, and what was said."""
        command = [binary, "--exact", *tests]
        within = TEST_WITHIN + 2 * len(tests)
        with subprocess.Popen(
            command, cwd=self.tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        ) as run:
            try:
                said = run.communicate(timeout=within)[0].decode(errors="replace")
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, 9)
                return False, f"not done within {within} s"
        counted = re.search(r"(\d+) passed; (\d+) failed", said)
        if run.returncode == 0 and (not counted or int(counted[1]) != len(tests)):
            raise Stop(f"{binary} does not have each of {tests}")
        return run.returncode == 0, said


def control(bench, binaries, guards):
    """Every test passes while nothing is off: else its failing would say nothing."""
    bench.off.write_text("")
    for name, binary in binaries.items():
        tests = sorted({guard["test"].split()[1] for guard in guards if guard["test"].split()[0] == name})
        passed, said = bench.passes(binary, tests)
        if not passed:
            raise Stop(f"with every guard on, tests of {name} fail:\n{said}")


def run(folder, names):
    """Gives the number of guards whose tests stay green."""
    guards, bench, green = wanted(names), Bench(folder), []
    begun, done = time.monotonic(), 0
    for number, taken in enumerate(rounds(guards, bench.sources)):
        alone = taken[0].get("alone", False)
        what = taken[0]["name"] + " alone" if alone else f"{len(taken)} guards"
        print(f"== building {what}", flush=True)
        here = taken if number else guards
        binaries = bench.build(mutated(taken, bench.sources), {guard["test"].split()[0] for guard in here})
        if not alone:
            print("== all tests, with every guard on", flush=True)
            control(bench, binaries, here)
        for guard in taken:
            (binary, test), start = guard["test"].split(), time.monotonic()
            bench.off.write_text("" if alone else guard["name"])
            passed, _ = bench.passes(binaries[binary], [test])
            bench.off.write_text("")
            done += 1
            word = "GREEN" if passed else "red  "
            print(f"{done:3}/{len(guards)} {word} {time.monotonic() - start:5.1f} s  {guard['name']}  ({test})", flush=True)
            if passed:
                green.append(guard)
    print(f"== {len(guards) - len(green)} of {len(guards)} guards seen red, {time.monotonic() - begun:.0f} s")
    for guard in green:
        print(f"STAYS GREEN: {guard['name']} ({guard['file']}): {guard['test']}")
    return len(green)


if __name__ == "__main__":
    try:
        sys.exit(1 if run(Path(sys.argv[1]), set(sys.argv[2:])) else 0)
    except Stop as stop:
        print(f"guards: {stop}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
