"""Which model it is: a hash of all that its predictions depend on."""

from __future__ import annotations

import hashlib
import json

import torch

from everlong.data.codec import Codec
from everlong.model.language_model import LanguageModel


def model_fingerprint(model: LanguageModel, codec: Codec) -> str:
    """64 hexadecimal digits: the SHA-256 of the configuration, every parameter and buffer, and the codec."""
    digest = hashlib.sha256(json.dumps([model.config.to_dict(), codec.fingerprint()]).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
