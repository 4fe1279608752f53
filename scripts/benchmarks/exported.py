"""A BERT's encoder for ONNX Runtime: what other engines are measured with.

    exported     the encoder as an ONNX file, its causal mask in the graph
    OnnxOnCuda   asked on a GPU, tensors in and out of its memory

On a GPU it needs onnxruntime-gpu, and onnx to export: neither is a dependency of the project.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor, nn


class Causal(nn.Module):
    """The encoder with its mask as a part of the graph, so that it can be exported."""

    def __init__(self, bert: Any) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, tokens: Tensor) -> Tensor:
        events = tokens.shape[1]
        place = torch.arange(events)
        later = (place[None, :] > place[:, None])[None, None]
        mask = torch.zeros_like(later, dtype=tokens.dtype).masked_fill(later, -1e4)
        known = self.bert.embeddings(inputs_embeds=tokens)
        for layer in self.bert.encoder.layer:
            known = layer(known, mask)
        found: Tensor = known
        return found


def exported(module: Any) -> bytes:
    """`tokens` (lines, events, hidden) -> `states`, likewise; of any number of lines and events.

    `module` is on the CPU, and its weights say whether numbers have 32 or 16 bits.
    """
    file = io.BytesIO()
    kind = next(module.parameters()).dtype
    torch.onnx.export(
        Causal(module).eval(),
        (torch.zeros(3, 5, module.config.hidden_size, dtype=kind),),
        file,  # type: ignore[arg-type]
        input_names=["tokens"],
        output_names=["states"],
        dynamic_axes={"tokens": {0: "lines", 1: "events"}, "states": {0: "lines", 1: "events"}},
        opset_version=17,
        dynamo=False,
    )
    return file.getvalue()


class OnnxOnCuda:
    """The encoder on a GPU by ONNX Runtime, in 16 bits; tokens and states stay there."""

    def __init__(self, module: Any) -> None:
        """Raises ImportError where there is no ONNX Runtime for CUDA."""
        import onnxruntime  # type: ignore[import-not-found]

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise ImportError("this onnxruntime knows no CUDA")
        onnxruntime.preload_dlls()  # CUDA's libraries as PyTorch has loaded them
        self._session = onnxruntime.InferenceSession(
            exported(module.half()), providers=["CUDAExecutionProvider"]
        )
        if self._session.get_providers()[0] != "CUDAExecutionProvider":
            raise ImportError("onnxruntime could not load its part for CUDA")

    def __call__(self, tokens: Tensor) -> Tensor:
        """(lines, events, hidden) float16."""
        half = tokens.half().contiguous()
        found = torch.empty_like(half)
        bound = self._session.io_binding()
        for name, tensor, bind in (
            ("tokens", half, bound.bind_input),
            ("states", found, bound.bind_output),
        ):
            bind(name, "cuda", 0, 10, list(tensor.shape), tensor.data_ptr())  # 10: float16
        torch.cuda.current_stream().synchronize()  # it has a stream of its own
        self._session.run_with_iobinding(bound)
        bound.synchronize_outputs()
        return found
