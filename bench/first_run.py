"""The main job on the built-in shop, twice: with nothing kept from earlier, and again. Times, memory and the result table go to bench/results/."""
import argparse, datetime, re, shutil, sys
from pathlib import Path
from mmrec.core import read_json, write_json
from mmrec.report.page import result_table
from record import RESULTS, machine, measured, record

MMREC = [sys.executable, "-c", "import sys; from mmrec.cli import main; sys.exit(main())"]


def main(folder):
    shutil.rmtree(folder, ignore_errors=True)
    command = [*MMREC, "run", "--out", str(folder/"runs"), "--data", str(folder/"data")]
    data = "built-in shop (made-up data): 25,000 reviews, 2,000 products"
    for claim, budget in (("first run vs five minutes", 300), ("second run vs ninety seconds", 90)):
        said, seconds, peak = measured(command)
        print("\n".join(line for line in said.splitlines() if re.search(r" s +\d+ MB", line)))
        metrics = read_json(max((folder/"runs").glob("2*"))/"metrics.json")
        record("run", claim, seconds, budget, "seconds", data, peak_mb=round(peak), stages={s["stage"]: round(s["seconds"], 1) for s in metrics["stages"]})
    table = result_table(metrics)
    path, rows = RESULTS/"run_table.json", [[name, *row] for name, row in zip(table.index, table.to_numpy().tolist())]
    write_json(path, (read_json(path) if path.exists() else []) + [dict(data=data, encoders=metrics["encoders"], seed=metrics["config"]["seed"], machine=machine(),
               date=datetime.date.today().isoformat(), columns=list(table.columns), rows=rows)])
    print(table.to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("folder", nargs="?", default="data/first-run", help="where everything goes; emptied first")
    main(Path(parser.parse_args().folder))
