# Whether the CUDA parts are built: TANDEM_HAS_CUDA. They need nvcc and FlashInfer's headers (scripts/setup); a build
# without them is complete and runs on the CPU. A room's folder `cuda` is left out then, its folder `no_cuda` otherwise.
option(TANDEM_CUDA "Build the GPU parts where nvcc is" ON)
set(TANDEM_CUDA_ARCHITECTURES "90a-real" CACHE STRING "GPU architectures: of 80 86 89 90a-real 100 120, a list")
set(TANDEM_FLASHINFER ${CMAKE_SOURCE_DIR}/build/flashinfer CACHE PATH "FlashInfer's headers, as scripts/setup unpacks them")

set(TANDEM_HAS_CUDA OFF)
find_program(TANDEM_NVCC nvcc PATHS /usr/local/cuda/bin)
if(NOT TANDEM_CUDA)
  set(reason "TANDEM_CUDA is off")
elseif(TANDEM_SANITIZE)
  set(reason "sanitizers and the CUDA runtime do not go together")
elseif(NOT TANDEM_NVCC AND NOT CMAKE_CUDA_COMPILER)
  set(reason "there is no nvcc")
elseif(NOT EXISTS ${TANDEM_FLASHINFER}/version.txt)
  set(reason "FlashInfer's headers are missing, run scripts/setup")
else()
  set(TANDEM_HAS_CUDA ON)
endif()

if(NOT TANDEM_HAS_CUDA)
  message(STATUS "GPU parts are left out: ${reason}")
  return()
endif()
if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER ${TANDEM_NVCC})
endif()
if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
set(CMAKE_CUDA_ARCHITECTURES ${TANDEM_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)
# CMake 3.25 does not know that nvcc has C++20.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA_STANDARD 20)
find_package(CUDAToolkit REQUIRED)
message(STATUS "GPU parts: CUDA ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")

# fmt 9 switches constexpr off for nvcc, which can do without that, and then fails.
# As on the CPU, products are fused into sums only where the code says fma: elementwise results then equal the CPU's.
set(TANDEM_CUDA_FLAGS --fmad=false --expt-relaxed-constexpr -Xcompiler=-march=x86-64-v3,-ffp-contract=off
    -Xcompiler=-Wall,-Wextra,-Werror=return-type -DFMT_USE_CONSTEXPR=1)

# Sources below kernels/cuda/flashinfer hold the library's templates, whose headers are not free of warnings and want
# fused multiply-adds. -I, not -isystem: the toolkit's older CCCL would come first.
set(TANDEM_FLASHINFER_FLAGS --expt-relaxed-constexpr -Xcompiler=-march=x86-64-v3,-w -w -DFMT_USE_CONSTEXPR=1
    -I${TANDEM_FLASHINFER}/include -I${TANDEM_FLASHINFER}/cccl/libcudacxx -I${TANDEM_FLASHINFER}/cccl/cub
    -I${TANDEM_FLASHINFER}/cccl/thrust -I${TANDEM_FLASHINFER}/cutlass/include)
