mkdir knox-tutorial
cd knox-tutorial
python3 -m venv .venv
. .venv/bin/activate
