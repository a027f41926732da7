# Installs what find_package(MetaAdamW CONFIG) and pkg-config read. Components: Runtime, the shared library that programs
# load; Development, all else. As a part of another project only if METAADAMW_INSTALL is on.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

if(CMAKE_SOURCE_DIR STREQUAL MetaAdamW_SOURCE_DIR)
  set(top_level ON)
else()
  set(top_level OFF)
endif()
option(METAADAMW_INSTALL "Take part in the installation" ${top_level})
if(NOT METAADAMW_INSTALL)
  return()
endif()

set(development DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT Development)
set(runtime DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT Runtime)
# Who asks for static libraries gets nothing else; else both, in one prefix.
set(METAADAMW_HAS_SHARED ON)
if(is_static)
  set(METAADAMW_HAS_SHARED OFF)
endif()
install(FILES "${static_library}" ${development})
if(METAADAMW_HAS_SHARED)
  if(CMAKE_INSTALL_SO_NO_EXE) # Debian's shared libraries are not executable
    install(FILES "${shared_library}" ${runtime})
  else()
    install(PROGRAMS "${shared_library}" ${runtime})
  endif()
  # Programs load the first link; the linker reads the second.
  list(GET METAADAMW_SHARED_LINKS 0 link)
  install(FILES "${library_dir}/${link}" ${runtime})
  list(GET METAADAMW_SHARED_LINKS 1 link)
  install(FILES "${library_dir}/${link}" ${development})
endif()

install(FILES
  "${MetaAdamW_SOURCE_DIR}/include/metaadamw.h"
  "${MetaAdamW_SOURCE_DIR}/bindings/cpp/include/metaadamw.hpp"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT Development)
install(DIRECTORY "${MetaAdamW_SOURCE_DIR}/bindings/cpp/include/metaadamw"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT Development FILES_MATCHING PATTERN "*.hpp")
install(FILES "${MetaAdamW_SOURCE_DIR}/README.md" "${MetaAdamW_SOURCE_DIR}/CHANGELOG.md"
  DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT Development)
install(DIRECTORY "${MetaAdamW_SOURCE_DIR}/docs" DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT Development)
# The licences go with the library that contains the crates.
set(component Development)
if(METAADAMW_HAS_SHARED)
  set(component Runtime)
endif()
install(FILES "${MetaAdamW_SOURCE_DIR}/LICENSE-MIT" "${MetaAdamW_SOURCE_DIR}/LICENSE-APACHE"
  "${MetaAdamW_SOURCE_DIR}/THIRD-PARTY.md"
  DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT ${component})

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/MetaAdamW")
configure_package_config_file(
  "${MetaAdamW_SOURCE_DIR}/cmake/MetaAdamWConfig.cmake.in" "${MetaAdamW_BINARY_DIR}/MetaAdamWConfig.cmake"
  INSTALL_DESTINATION "${package_dir}"
  PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file("${MetaAdamW_BINARY_DIR}/MetaAdamWConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${MetaAdamW_BINARY_DIR}/MetaAdamWConfig.cmake" "${MetaAdamW_BINARY_DIR}/MetaAdamWConfigVersion.cmake"
  "${MetaAdamW_SOURCE_DIR}/cmake/MetaAdamWTorch.cmake"
  DESTINATION "${package_dir}" COMPONENT Development)

# Folders of the .pc file: relative to itself, so that the prefix can be moved; absolute ones stay as they were given.
set(pc_dir "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
if(IS_ABSOLUTE "${pc_dir}")
  set(METAADAMW_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
else()
  file(RELATIVE_PATH up "/${pc_dir}" "/")
  string(REGEX REPLACE "/$" "" up "${up}")
  set(METAADAMW_PC_PREFIX "\${pcfiledir}/${up}")
endif()
foreach(folder LIBDIR INCLUDEDIR)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${folder}}")
    set(METAADAMW_PC_${folder} "${CMAKE_INSTALL_${folder}}")
  else()
    set(METAADAMW_PC_${folder} "\${prefix}/${CMAKE_INSTALL_${folder}}")
  endif()
endforeach()
string(REPLACE ";" " -l" METAADAMW_PC_PRIVATE "-l${METAADAMW_SYSTEM_LIBRARIES}")
set(METAADAMW_PC_LIBRARIES "")
if(NOT METAADAMW_HAS_SHARED)
  set(METAADAMW_PC_LIBRARIES " ${METAADAMW_PC_PRIVATE}")
endif()
configure_file("${MetaAdamW_SOURCE_DIR}/cmake/metaadamw.pc.in" "${MetaAdamW_BINARY_DIR}/metaadamw.pc" @ONLY)
install(FILES "${MetaAdamW_BINARY_DIR}/metaadamw.pc" DESTINATION "${pc_dir}" COMPONENT Development)

if(top_level)
  include("${MetaAdamW_SOURCE_DIR}/cmake/Packages.cmake")
endif()
