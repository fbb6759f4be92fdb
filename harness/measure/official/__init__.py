"""The runtimes' own benchmark tools: how each is started, and what it says, read strictly.

    benchmark_model        LiteRT and TensorFlow Lite; the classic interpreter's, and the compiled model's
    onnxruntime_perf_test  ONNX Runtime
    executor_runner        ExecuTorch

A tool yields a summary, and nothing else does: raw samples are ours alone. A line that no parser knows is an error, for
a figure whose meaning changed with a release is worse than none.
"""
