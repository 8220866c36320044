. /tmp/env.sh; export PYTHONPATH=/work/wt/weights/src; PYT=/work/wt/weights/.venv-dev/bin/python; cd /tmp/mini
time $PYT -m delf weights import /work/shared/data/parity/model --config /work/shared/data/parity/configs/b_whiten128.pbtxt -o delf-gld.safetensors
time $PYT -m delf reproduce revisited --rows roxford/asmk+sp --data data --runs runs --model delf-gld.onnx --runtime onnx
time $PYT -m delf reproduce paper --rows oxf5k/delf-paper --data data --runs runs --model delf-gld.onnx --runtime onnx
