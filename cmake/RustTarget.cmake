# The Rust target that CMake's compiler and system ask for: METAADAMW_RUST_TARGET. It is always passed to cargo, so that
# neither CARGO_BUILD_TARGET nor a configuration file makes it another.

find_program(METAADAMW_CARGO cargo HINTS "$ENV{HOME}/.cargo/bin" DOC "Rust's build tool")
find_program(METAADAMW_RUSTC rustc HINTS "$ENV{HOME}/.cargo/bin" DOC "Rust's compiler")
if(NOT METAADAMW_CARGO OR NOT METAADAMW_RUSTC)
  message(FATAL_ERROR "MetaAdamW needs cargo and rustc; install Rust from https://rustup.rs, or set METAADAMW_CARGO and "
    "METAADAMW_RUSTC")
endif()
set(METAADAMW_RUST_TARGET "" CACHE STRING "Rust target, for example aarch64-unknown-linux-gnu; empty: what CMake builds for")

# Sets `out` to the target for what CMake builds for, or to "".
function(metaadamw_rust_target out)
  string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" processor)
  if(processor MATCHES "^(x86_64|amd64|x64)$")
    set(processor x86_64)
  elseif(processor MATCHES "^(aarch64|arm64)$")
    set(processor aarch64)
  else()
    set(processor "")
  endif()
  set(target "")
  if(processor AND CMAKE_SYSTEM_NAME STREQUAL "Linux")
    set(target "${processor}-unknown-linux-gnu")
  elseif(processor AND CMAKE_SYSTEM_NAME STREQUAL "Darwin")
    set(target "${processor}-apple-darwin")
  endif()
  set(${out} "${target}" PARENT_SCOPE)
endfunction()

execute_process(COMMAND "${METAADAMW_RUSTC}" -vV OUTPUT_VARIABLE rustc_version RESULT_VARIABLE failed)
string(REGEX MATCH "host: ([^\n]+)" rustc_host "${rustc_version}")
if(failed OR NOT rustc_host)
  message(FATAL_ERROR "MetaAdamW: ${METAADAMW_RUSTC} -vV does not name its host")
endif()
set(rustc_host "${CMAKE_MATCH_1}")

set(METAADAMW_TARGET "${METAADAMW_RUST_TARGET}")
if(NOT METAADAMW_TARGET AND NOT CMAKE_CROSSCOMPILING)
  set(METAADAMW_TARGET "${rustc_host}")
elseif(NOT METAADAMW_TARGET)
  metaadamw_rust_target(METAADAMW_TARGET)
  if(NOT METAADAMW_TARGET)
    message(FATAL_ERROR "MetaAdamW: no Rust target is known for CMAKE_SYSTEM_NAME '${CMAKE_SYSTEM_NAME}' and "
      "CMAKE_SYSTEM_PROCESSOR '${CMAKE_SYSTEM_PROCESSOR}'; set METAADAMW_RUST_TARGET (rustc --print target-list)")
  endif()
endif()

execute_process(COMMAND "${METAADAMW_RUSTC}" --print target-libdir --target "${METAADAMW_TARGET}"
  OUTPUT_VARIABLE target_libdir OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_VARIABLE reason)
if(failed)
  message(FATAL_ERROR "MetaAdamW: rustc does not know the target '${METAADAMW_TARGET}': ${reason}")
elseif(NOT IS_DIRECTORY "${target_libdir}")
  message(FATAL_ERROR "MetaAdamW: Rust's standard library for ${METAADAMW_TARGET} is missing; install it with\n"
    "    rustup target add ${METAADAMW_TARGET}")
endif()
