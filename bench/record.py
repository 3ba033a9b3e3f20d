"""What every bench shares: a fair clock for whole processes, and the file in which a measured figure is kept."""
import datetime, json, os, platform, resource, subprocess, sys, threading, time
from pathlib import Path
import psutil

RESULTS = Path(__file__).parent/"results"


def machine():
    "The processor, its cores and what decides the speed of arithmetic on it."
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    line = lambda key: next((l.split(":", 1)[1].strip() for l in info.splitlines() if l.startswith(key)), "")
    flags = [f for f in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if f in line("flags").split()]
    return f"{os.cpu_count()} cores of {line('model name') or platform.processor() or platform.machine()}" + (f" ({', '.join(flags)})" if flags else "")


def measured(argv, **env):
    "Run a command to its end: (what it printed, seconds, peak resident MB of it and its children together)."
    start, peak, stop = time.perf_counter(), [0.0], threading.Event()
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
    def watch():
        process = psutil.Process(child.pid)
        while not stop.wait(.02):
            total = 0
            try:
                for p in [process, *process.children(recursive=True)]: total += p.memory_info().rss
            except psutil.Error: pass
            peak[0] = max(peak[0], total/1e6)
    threading.Thread(target=watch, daemon=True).start()
    out = child.communicate()[0]
    seconds = time.perf_counter() - start
    stop.set()
    if child.returncode: sys.exit(f"{' '.join(map(str, argv))} failed with {child.returncode}")
    return out, seconds, peak[0]


def others_load(last={}): # noqa: B006 # it remembers the record before
    "Cores that other processes kept busy since the record before: by all processes less by this one and its children."
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, times = sum(u.ru_utime + u.ru_stime for u in usage), psutil.cpu_times()
    busy = times.user + times.nice + times.system if hasattr(times, "nice") else times.user + times.system
    now = dict(at=time.perf_counter(), by_others=busy - own)
    if last and now["at"] - last["at"] < 5: return last["share"] # too short to tell
    now["share"] = max(0., round((now["by_others"] - last["by_others"])/(now["at"] - last["at"]), 2)) if last else None
    last.update(now)
    return now["share"]


others_load()


def record(
    file,   # results file without suffix, e.g. 'data'
    claim,  # what is claimed
    ours,   # our figure
    theirs, # the alternative's figure; None where there is none
    unit,   # 'seconds' (less is better), a rate such as 'pictures/s' (more is better) or what is counted, e.g. 'share of worlds'
    data,   # on what it was measured
    **more, # further facts, e.g. peak_mb
):          # the record
    "Add a figure as measured to those of other machines and days, and print it; no earlier record is replaced."
    path = RESULTS/f"{file}.json"
    rows = json.loads(path.read_text(encoding="utf8")) if path.exists() else []
    top, bottom = (theirs, ours) if unit == "seconds" else (ours, theirs)
    row = dict(claim=claim, ours=round(ours, 3), theirs=theirs if theirs is None else round(theirs, 3), ratio=round(top/bottom, 2) if theirs and bottom else None,
               unit=unit, data=data, machine=machine(), date=datetime.date.today().isoformat(), others=others_load(), **more)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(sorted(rows + [row], key=lambda r: (r["claim"], r["date"])), indent=1, ensure_ascii=False) + "\n", encoding="utf8") # of one day: as measured
    print(f"{claim}: ours {row['ours']:g}" + (f", theirs {row['theirs']:g}" if theirs is not None else "") + f" {unit}" + (f", ratio {row['ratio']:g}" if row["ratio"] is not None else ""), flush=True)
    return row
