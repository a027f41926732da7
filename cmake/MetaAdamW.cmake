# Calls cargo into the build folder and defines the targets MetaAdamW::shared, MetaAdamW::static (C and C++ headers
# included), and MetaAdamW::metaadamw, which is one of them: static if BUILD_SHARED_LIBS is off or METAADAMW_STATIC on.
# MetaAdamW::torch too, if the project has found libtorch before.

set(METAADAMW_CARGO_TARGET_DIR "${MetaAdamW_BINARY_DIR}/cargo" CACHE PATH "Where cargo builds")
if(NOT CMAKE_SIZEOF_VOID_P EQUAL 8)
  message(FATAL_ERROR "MetaAdamW is for 64-bit targets only")
endif()
if(WIN32)
  message(FATAL_ERROR "MetaAdamW's CMake build does not know Windows yet")
endif()

# Not an option(): a cached answer would outlive a change of BUILD_SHARED_LIBS.
if(DEFINED METAADAMW_STATIC)
  set(is_static "${METAADAMW_STATIC}")
elseif(DEFINED BUILD_SHARED_LIBS AND NOT BUILD_SHARED_LIBS)
  set(is_static ON)
else()
  set(is_static OFF)
endif()

# ------------------------------------------------------------------------------------------------------- names ----

file(STRINGS "${MetaAdamW_SOURCE_DIR}/include/metaadamw.h" abi REGEX "^#define MAW_ABI_VERSION ")
string(REGEX MATCH "[0-9]+$" abi "${abi}")

# METAADAMW_SHARED_NAMES: the library, then the links to it, each to the one before.
# METAADAMW_SYSTEM_LIBRARIES: what the archive needs (rustc --print native-static-libs). Without gcc_s, which compilers
# add by themselves, or gcc_eh in its place where all is static.
set(METAADAMW_STATIC_NAME libmetaadamw.a)
if(APPLE)
  set(cargo_shared_name libmetaadamw.dylib)
  set(METAADAMW_SHARED_NAMES libmetaadamw.${PROJECT_VERSION}.dylib libmetaadamw.${abi}.dylib libmetaadamw.dylib)
  set(METAADAMW_SONAME "@rpath/libmetaadamw.${abi}.dylib")
  set(METAADAMW_SYSTEM_LIBRARIES iconv System c m)
else()
  set(cargo_shared_name libmetaadamw.so)
  set(METAADAMW_SHARED_NAMES libmetaadamw.so.${PROJECT_VERSION} libmetaadamw.so.${abi} libmetaadamw.so)
  set(METAADAMW_SONAME libmetaadamw.so.${abi})
  set(METAADAMW_SYSTEM_LIBRARIES util rt pthread m dl)
endif()
list(GET METAADAMW_SHARED_NAMES 0 METAADAMW_SHARED_NAME)

# ------------------------------------------------------------------------------------------------------- build ----

# Paths of this machine do not get into the library. A linker of its own only where CMake compiles for another machine.
if(DEFINED ENV{CARGO_HOME})
  set(cargo_home "$ENV{CARGO_HOME}")
else()
  set(cargo_home "$ENV{HOME}/.cargo")
endif()
set(flags "'--remap-path-prefix=${cargo_home}=/cargo', '--remap-path-prefix=${MetaAdamW_SOURCE_DIR}=/metaadamw'")
set(settings "")
if(CMAKE_CROSSCOMPILING)
  set(settings --config "target.${METAADAMW_TARGET}.linker='${CMAKE_C_COMPILER}'")
  if(CMAKE_SYSROOT)
    string(APPEND flags ", '-Clink-arg=--sysroot=${CMAKE_SYSROOT}'")
  endif()
  if(CMAKE_C_COMPILER_TARGET)
    string(APPEND flags ", '-Clink-arg=--target=${CMAKE_C_COMPILER_TARGET}'")
  endif()
endif()
list(APPEND settings --config "target.${METAADAMW_TARGET}.rustflags=[${flags}]")
# For other programs of the package as well.
set(METAADAMW_CARGO_BUILD
  "${METAADAMW_CARGO}" build --release --locked --target "${METAADAMW_TARGET}" ${settings}
  --target-dir "${METAADAMW_CARGO_TARGET_DIR}"
  CACHE INTERNAL "The command that builds the package")
set(METAADAMW_CARGO_OUTPUT "${METAADAMW_CARGO_TARGET_DIR}/${METAADAMW_TARGET}/release"
  CACHE INTERNAL "Where that command leaves what it builds")

set(library_dir "${MetaAdamW_BINARY_DIR}/lib")
set(shared_library "${library_dir}/${METAADAMW_SHARED_NAME}")
set(static_library "${library_dir}/${METAADAMW_STATIC_NAME}")
file(MAKE_DIRECTORY "${library_dir}")
set(link_commands "")
set(METAADAMW_SHARED_LINKS ${METAADAMW_SHARED_NAMES})
list(REMOVE_AT METAADAMW_SHARED_LINKS 0)
set(previous ${METAADAMW_SHARED_NAME})
foreach(link IN LISTS METAADAMW_SHARED_LINKS)
  list(APPEND link_commands COMMAND "${CMAKE_COMMAND}" -E create_symlink ${previous} "${library_dir}/${link}")
  set(previous ${link})
endforeach()

# Cargo knows best what is out of date, so it is asked each time; an unchanged library keeps its time stamp.
add_custom_target(metaadamw_cargo ALL
  COMMAND ${METAADAMW_CARGO_BUILD} --lib
  COMMAND "${CMAKE_COMMAND}" -E copy_if_different "${METAADAMW_CARGO_OUTPUT}/${cargo_shared_name}" "${shared_library}"
  ${link_commands}
  COMMAND "${CMAKE_COMMAND}" "-DFROM=${METAADAMW_CARGO_OUTPUT}/${METAADAMW_STATIC_NAME}" "-DTO=${static_library}"
    "-DLINKER=${CMAKE_LINKER}" "-DOBJCOPY=${CMAKE_OBJCOPY}" "-DAR=${CMAKE_AR}" "-DAPPLE=${APPLE}"
    -P "${MetaAdamW_SOURCE_DIR}/cmake/LocalizeArchive.cmake"
  WORKING_DIRECTORY "${MetaAdamW_SOURCE_DIR}"
  BYPRODUCTS "${shared_library}" "${static_library}"
  COMMENT "Building libmetaadamw with cargo for ${METAADAMW_TARGET}"
  USES_TERMINAL
  VERBATIM)

# As the installed ones in MetaAdamWConfig.cmake.in.
add_library(MetaAdamW::shared SHARED IMPORTED GLOBAL)
set_target_properties(MetaAdamW::shared PROPERTIES
  IMPORTED_LOCATION "${shared_library}"
  IMPORTED_SONAME "${METAADAMW_SONAME}")
add_library(MetaAdamW::static STATIC IMPORTED GLOBAL)
set_target_properties(MetaAdamW::static PROPERTIES
  IMPORTED_LOCATION "${static_library}"
  INTERFACE_LINK_LIBRARIES "${METAADAMW_SYSTEM_LIBRARIES}")
foreach(kind shared static)
  add_dependencies(MetaAdamW::${kind} metaadamw_cargo)
  set_target_properties(MetaAdamW::${kind} PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${MetaAdamW_SOURCE_DIR}/include;${MetaAdamW_SOURCE_DIR}/bindings/cpp/include")
  # A project without C++ could not meet the demand of the C++ headers.
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if("CXX" IN_LIST languages)
    set_target_properties(MetaAdamW::${kind} PROPERTIES INTERFACE_COMPILE_FEATURES cxx_std_17)
  endif()
endforeach()
if(is_static)
  add_library(MetaAdamW::metaadamw ALIAS MetaAdamW::static)
else()
  add_library(MetaAdamW::metaadamw ALIAS MetaAdamW::shared)
endif()
include("${CMAKE_CURRENT_LIST_DIR}/MetaAdamWTorch.cmake")
