"""The features of one level of a photo, with nothing but NumPy, ONNX Runtime and Pillow.

    python examples/features_from_onnx.py MODEL.onnx PHOTO.jpg FEATURES.npz [FACTOR]

FACTOR is the size of the level, relative to the photo. What delf does beside that is to join several levels, and to
leave out what lies at the border or where there is no texture.
"""

import base64
import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

if len(sys.argv) not in (4, 5):
    sys.exit(__doc__)
session = onnxruntime.InferenceSession(sys.argv[1])
stored = session.get_modelmeta().custom_metadata_map
options, stride = (json.loads(stored["delf"])[name] for name in ("extraction", "stride"))
mean, components = (np.frombuffer(base64.b64decode(stored[f"pca.{name}"]), "<f4") for name in ("mean", "components"))
photo = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
width, height = size = [round(side * float((*sys.argv, "1")[4])) for side in photo.size]
pixels = np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS), np.float32).transpose(2, 0, 1)[None]
feature_map, attention, _ = session.run(None, {"images": pixels})
raw, scores = feature_map[0].reshape(len(mean), -1).T, np.maximum(attention[0].ravel(), 0)
weight = options.get("length_weight", 0)
scores = scores ** (1 - weight) * np.linalg.norm(raw, axis=1) ** weight
best = np.argsort(-scores, kind="stable")[: options.get("max_features", 1000)]
best = best[scores[best] >= options.get("score_threshold", 0)]
unit = raw[best] / np.linalg.norm(raw[best], axis=1, keepdims=True)
reduced = (unit - mean) @ components.reshape(-1, len(mean))[: options.get("dimensions", 128)].T
cells = np.column_stack([best % attention.shape[2], best // attention.shape[2]])
keypoints = (cells * stride + 0.5) * np.divide(photo.size, size) - 0.5  # (x, y) of the photo, centres of pixels at 0
np.savez(sys.argv[3], keypoints=keypoints, scores=scores[best],
         descriptors=reduced / np.linalg.norm(reduced, axis=1, keepdims=True))
print(f"{len(best)} features of {reduced.shape[1]} dimensions")
