#!/bin/sh
# Remove from a folder of installed packages what a prediction on a CPU never loads.
set -eu
cd "$1"

# OpenVINO: devices other than the CPU, device mixing, readers of formats other than IR, the C
# interface, headers, converters and the bridge to torch.
(
    cd openvino/libs
    rm -f libopenvino_intel_gpu_plugin* libopenvino_intel_npu_plugin* cache.json
    rm -f libopenvino_auto_plugin* libopenvino_auto_batch_plugin* libopenvino_hetero_plugin*
    rm -f libopenvino_c.so* ./*.pc
    for reader in gguf jax onnx paddle pytorch tensorflow tensorflow_lite; do
        rm -f "libopenvino_${reader}_frontend"*
    done
)
rm -rf openvino/frontend/jax openvino/frontend/onnx openvino/frontend/paddle \
    openvino/frontend/pytorch openvino/frontend/tensorflow openvino/preprocess/torchvision
rm -rf openvino/include openvino/cmake openvino/tools openvino/torch bin share

# Pillow: only PNG and JPEG are written here.
rm -f PIL/_avif* PIL/_webp* PIL/_imagingcms* PIL/_imagingtk*
rm -f pillow.libs/libavif* pillow.libs/libwebp* pillow.libs/libsharpyuv* pillow.libs/liblcms*

# Test suites, headers, C sources and type stubs. (numpy.f2py has to stay: scipy imports all of numpy.)
find . -type d -name tests -prune -exec rm -rf {} +
rm -rf pydicom/data/test_files
rm -rf numpy/_core/include numpy/_core/lib
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' \
    -o -name '*.h' -o -name '*.hpp' \) -delete
