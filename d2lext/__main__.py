"""The course's commands: `d2lext COMMAND`, or `python -m d2lext COMMAND`.

    lab [FOLDER]     open the lessons; without a clone, copies of them in FOLDER
                     (--zh: the Chinese lessons)
    doctor           check your installation and say how to fix it
    cifar10          download CIFAR-10 (170 MB)
    answers save     save your answers to the exercises; also restore, update, student
    train            train without a notebook

`--help` after a command tells you more.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from d2lext.places import CHECKOUT, COURSE, PACKAGE, print_any_name

MODULES = {
    "doctor": ("d2lext.course.doctor", []),
    "cifar10": ("d2lext.images", ["--download"]),
    "answers": ("d2lext.course.answers", []),
    "train": ("d2lext.train", []),
}


def copy_lessons(folder: Path) -> None:
    """Copy the lessons that the folder lacks; never replace a file."""
    lessons = COURSE / "notebooks"
    for path in sorted([*lessons.glob("*.ipynb"), *lessons.glob("zh/*.ipynb")]):
        target = folder / path.relative_to(lessons)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(path, target)
            print(f"copied {path.relative_to(lessons)}")


def lab(args: list[str]) -> int:
    """Open a clone's lessons, or those in a folder; pass `args` on to JupyterLab."""
    language, args = "zh" if "--zh" in args else "", [a for a in args if a != "--zh"]
    if importlib.util.find_spec("jupyterlab") is None:
        sys.exit('lab: JupyterLab is missing: pip install "jupyterlab>=4"')
    root, folder = CHECKOUT, COURSE / "notebooks"
    if (named := bool(args) and args[0][0] != "-") or CHECKOUT is None:
        root = folder = Path(args.pop(0) if named else "notebooks").resolve()
        try:
            copy_lessons(folder)
        except OSError as error:
            sys.exit(f"lab: {error}; name a folder of your own: d2lext lab FOLDER")
    # The config allows large uploads and asks no questions about news.
    paths = [os.environ.get("JUPYTER_CONFIG_PATH"), str(PACKAGE / "course/lab")]
    config = {"JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}"]
    if hasattr(os, "getuid") and os.getuid() == 0:  # such as in a container
        command.append("--allow-root")
    command += [*args, str(min((folder / language).glob("*.ipynb")))]
    return subprocess.call(command, env=os.environ | config)


def main(argv: list[str] | None = None) -> int:
    print_any_name()
    command, *args = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if command == "lab":
        return lab(args)
    if command in MODULES:
        module, first = MODULES[command]
        return importlib.import_module(module).main([*first, *args])
    print(__doc__)
    return int(command not in ("-h", "--help"))


if __name__ == "__main__":
    sys.exit(main())
