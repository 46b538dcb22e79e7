# tandem_room(NAME LINK ... PRIVATE ...): the static library tandem_<name> of all sources below src/NAME.
# LINK lists what the room's headers may show (rooms by their short name), PRIVATE what only its sources use.
# tandem_tests(NAME): the test program of a room, all tests/NAME/*_test.cc.

# Every x86-64 from AVX2 up is served by one binary, so the common code may use that level; the folders of higher
# instruction sets add their own flags. No contraction: a*b+c is fused only where the code says fma, which keeps
# results equal on every instruction set.
set(TANDEM_BASE_FLAGS -march=x86-64-v3 -ffp-contract=off -Wall -Wextra -Wshadow=local -Werror=return-type)
set(TANDEM_ISA_FLAGS_avxvnni -mavxvnni)
# GCC 12 takes the undefined operands inside its own AVX-512 headers for uninitialised variables (GCC bug 105593).
set(TANDEM_ISA_FLAGS_avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -Wno-maybe-uninitialized -Wno-uninitialized)
set(TANDEM_ISA_FLAGS_amx ${TANDEM_ISA_FLAGS_avx512} -mamx-tile -mamx-int8)

if(TANDEM_SANITIZE)
  # Undefined behaviour ends the program like a bad access does, so that no test can pass over it. The fences that
  # GCC warns of are Asio's; what they order is ordered by mutexes too.
  list(APPEND TANDEM_BASE_FLAGS -fsanitize=${TANDEM_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer
       -D_GLIBCXX_ASSERTIONS)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    list(APPEND TANDEM_BASE_FLAGS -Wno-tsan)
  endif()
  add_link_options(-fsanitize=${TANDEM_SANITIZE})
endif()

set(TANDEM_ROOMS base platform quant gguf kernels_cpu ops moe models engine tokenizer chat scheduler server cli)

function(tandem_resolve out)
  set(result)
  foreach(item ${ARGN})
    if(item IN_LIST TANDEM_ROOMS)
      list(APPEND result tandem_${item})
    else()
      list(APPEND result ${item})
    endif()
  endforeach()
  set(${out} ${result} PARENT_SCOPE)
endfunction()

function(tandem_room name)
  cmake_parse_arguments(ARG "" "" "LINK;PRIVATE" ${ARGN})
  string(REPLACE "/" "_" target ${name})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cc)
  list(FILTER sources EXCLUDE REGEX "require_avx2.cc$")
  if(NOT sources)
    file(WRITE ${CMAKE_BINARY_DIR}/empty_${target}.cc "")
    set(sources ${CMAKE_BINARY_DIR}/empty_${target}.cc)
  endif()
  add_library(tandem_${target} STATIC ${sources})
  target_include_directories(tandem_${target} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_compile_options(tandem_${target} PRIVATE ${TANDEM_BASE_FLAGS})
  foreach(source ${sources})
    if(source MATCHES "/kernels/cpu/([a-z0-9]+)/")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${TANDEM_ISA_FLAGS_${CMAKE_MATCH_1}}")
    endif()
  endforeach()
  tandem_resolve(public ${ARG_LINK})
  tandem_resolve(private ${ARG_PRIVATE})
  target_link_libraries(tandem_${target} PUBLIC ${public} PRIVATE ${private})
endfunction()

function(tandem_tests name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  string(REPLACE "/" "_" target ${name})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*_test.cc)
  if(NOT sources)
    return()
  endif()
  add_executable(${target}_test ${sources})
  target_compile_options(${target}_test PRIVATE ${TANDEM_BASE_FLAGS})
  target_include_directories(${target}_test PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_definitions(${target}_test PRIVATE TANDEM_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  set(room ${target})
  if(NOT room IN_LIST TANDEM_ROOMS)
    set(room)
  endif()
  tandem_resolve(libraries ${room} ${ARG_LINK})
  target_link_libraries(${target}_test PRIVATE ${libraries} GTest::gtest GTest::gtest_main)
  add_test(NAME ${target} COMMAND ${target}_test)
  set_tests_properties(${target} PROPERTIES TIMEOUT 300)
endfunction()
