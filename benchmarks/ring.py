"""The ring at full size: torn frames, kills, latency. `python -m benchmarks.ring --out DIR`.

- **endurance**: one producer without a pause, three readers in C (one under address sanitizer) and
  one in Python, for 10 million frames or three minutes; every word of every frame is checked.
- **threads**: the same within one process under thread sanitizer, which sees nothing between
  processes.
- **kills**: 100 producers and 100 readers killed at random moments, two readers looking on. What a
  reader needs to be back is measured from the first frame of the next producer, or from opening
  the ring.
- **latency**: a frame every 4 ms, four readers; from publication until a reader has its copy.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "tests" / "ring" / "torture.c"
NAME = "/fastgan-campaign"
WIDTH = 16  # pixels a side: 768 bytes a frame

SANITIZERS = {
    "plain": [],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread", "-Wno-tsan"],
}

PYTHON_READER = """
import sys, time
from fastgan.realtime import RingReader
from tests.ring.frames import expected
end = time.monotonic() + float(sys.argv[2])
frames = skipped = torn = 0
with RingReader(sys.argv[1], timeout=10) as reader:
    while time.monotonic() < end:
        frame = reader.next(timeout=0.1)
        if frame is not None:
            frames, skipped = frames + 1, skipped + frame.skipped
            torn += int((frame.pixels != expected(frame.index, frame.pixels.shape[0])).any())
print("total", frames, skipped, torn, 0, 0, 0)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/ring"))
    parser.add_argument("--parts", default="endurance,threads,kills,latency")
    parser.add_argument("--seconds", type=float, default=180, help="of the endurance part")
    parser.add_argument("--frames", type=int, default=10_000_000, help="of the endurance part")
    parser.add_argument("--kills", type=int, default=200)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "ring.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        programs = build(Path(folder))
        parts = {
            "endurance": lambda: endurance(programs, options.seconds, options.frames),
            "threads": lambda: threads(programs["thread"]),
            "kills": lambda: kills(programs, options.kills),
            "latency": lambda: latency(programs["plain"]),
        }
        for part in options.parts.split(","):
            results[part] = parts[part]()
            print(part, json.dumps(results[part]), flush=True)
    results["machine"] = machine()
    path.write_text(json.dumps(results, indent=1) + "\n")


def build(folder: Path) -> dict[str, Path]:
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        sys.exit("benchmarks.ring: needs gcc or clang")
    programs = {}
    for kind, flags in SANITIZERS.items():
        programs[kind] = folder / f"torture-{kind}"
        command = [compiler, "-std=c11", "-O2", "-pthread", f"-I{ROOT / 'csrc' / 'include'}"]
        subprocess.run([*command, *flags, str(SOURCE), "-o", str(programs[kind])], check=True)
    return programs


def machine() -> dict[str, Any]:
    from fastgan.measure.machine import describe

    return describe()


# Processes ----------------------------------------------------------------------------------------


def start(program: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [str(program), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def producer(program: Path, frames: int = 0, interval_us: int = 0) -> subprocess.Popen[str]:
    return start(program, "produce", NAME, WIDTH, frames, interval_us)


def consumer(program: Path, seconds: float, policy: str) -> subprocess.Popen[str]:
    return start(program, "consume", NAME, WIDTH, seconds, policy)


def finish(process: subprocess.Popen[str], seconds: float) -> str:
    """What a process printed; one that does not end is a hang, and ends the campaign."""
    output = process.communicate(timeout=seconds)[0]
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"benchmarks.ring: {process.args} ended with {process.returncode}")
    return output


def totals(output: str) -> dict[str, float]:
    """The last line of a consumer."""
    names = ("frames", "skipped", "torn", "p50_us", "p99_us", "max_us")
    line = next(line for line in output.splitlines() if line.startswith("total"))
    values = [int(word) for word in line.split()[1:]]
    return {n: v if n[-3:] != "_us" else v / 1e3 for n, v in zip(names, values, strict=True)}


# Parts --------------------------------------------------------------------------------------------


def endurance(programs: dict[str, Path], seconds: float, frames: int) -> dict[str, Any]:
    began = time.monotonic()
    source = producer(programs["plain"], frames)
    readers = {
        "C, newest": consumer(programs["plain"], seconds, "newest"),
        "C, every": consumer(programs["plain"], seconds, "every"),
        "C, every, address sanitizer": consumer(programs["address"], seconds, "every"),
        "Python, newest": start(
            Path(sys.executable), "-c", PYTHON_READER, NAME, max(1.0, seconds - 1)
        ),
    }
    published = frames
    try:
        source.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        source.kill()
        published = 0
    took = time.monotonic() - began
    source.wait()
    found = {name: totals(finish(reader, seconds + 60)) for name, reader in readers.items()}
    published = published or max(one["frames"] + one["skipped"] for one in found.values())
    return {
        "seconds": round(took, 1),
        "frames_published": int(published),
        "torn": int(sum(one["torn"] for one in found.values())),
        "readers": {name: {k: one[k] for k in ("frames", "torn")} for name, one in found.items()},
    }


def threads(program: Path, frames: int = 300_000) -> dict[str, Any]:
    done = subprocess.run(
        [program, "threads", NAME, str(WIDTH), str(frames), "4"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("total")]
    return {
        "frames_published": frames,
        "readers": len(lines),
        "torn": sum(int(line.split()[3]) for line in lines),
        "reports": done.stderr.count("WARNING: ThreadSanitizer"),
        "exit_code": done.returncode,
    }


def kills(programs: dict[str, Path], count: int) -> dict[str, Any]:
    looking_on = [
        consumer(programs["plain"], 3600, "newest"),
        consumer(programs["address"], 3600, "every"),
    ]
    source, doomed = producer(programs["plain"]), consumer(programs["plain"], 3600, "newest")
    torn, opening = 0, []
    for number in range(count):
        time.sleep(random.uniform(0.005, 0.15))
        if number % 2:
            source.kill()
            finish(source, 10)
            source = producer(programs["plain"])
        else:
            doomed.kill()
            output = finish(doomed, 10)
            torn += output.count("torn")
            opening += attached(output)[:1]
            doomed = consumer(programs["plain"], 3600, "newest")
    time.sleep(0.3)
    for process in (*looking_on, doomed, source):
        process.kill()
    seen = [finish(process, 10) for process in looking_on]
    finish(doomed, 10)
    finish(source, 10)
    torn += sum(output.count("torn") for output in seen)
    return {
        "kills": count,
        "hangs": 0,  # each `finish` above has a time limit, and ends the campaign
        "torn": torn,
        "producers_met": [len(attached(output)) for output in seen],
        "reader_back_ms": spread(opening),
        "next_producer_ms": spread([ns for output in seen for ns in attached(output)[1:]]),
        "left_behind": [path.name for path in clean_up()],
    }


def attached(output: str) -> list[int]:
    """Nanoseconds that a consumer took to be back, for each producer that it met."""
    return [int(line.split()[2]) for line in output.splitlines() if line.startswith("attached")]


def spread(values: list[int]) -> dict[str, float]:
    every = sorted(value / 1e6 for value in values)
    return {
        "count": len(every),
        "p50": round(every[len(every) // 2], 4),
        "p99": round(every[int(0.99 * (len(every) - 1))], 4),
        "max": round(every[-1], 4),
    }


def clean_up() -> list[Path]:
    """A killed producer leaves its segment; a following one would reuse it."""
    left = list(Path("/dev/shm").glob(NAME[1:]))
    for path in left:
        path.unlink()
    return left


def latency(program: Path, seconds: float = 10.0) -> dict[str, Any]:
    source = producer(program, int(seconds / 0.004), 4000)
    readers = [consumer(program, seconds, policy) for policy in ("newest", "every") * 2]
    found = [totals(finish(reader, seconds + 30)) for reader in readers]
    source.kill()
    finish(source, 10)
    clean_up()
    return {"interval_ms": 4, "readers": found}


if __name__ == "__main__":
    main()
