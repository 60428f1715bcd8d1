"""From checkpoints to OpenVINO IR; the only place where torch and openvino meet."""
