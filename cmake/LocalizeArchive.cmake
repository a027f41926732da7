# Makes of cargo's archive FROM one, TO, whose only global symbols are the library's functions. Otherwise a plugin would
# export all of Rust's, and two Rust archives in one program would define the same ones.
# cmake -DFROM=… -DTO=… -DLINKER=… -DOBJCOPY=… -DAR=… -DAPPLE=… -P LocalizeArchive.cmake

# What TO was made of, by content: another target's archive may be older than TO.
file(SHA256 "${FROM}" source)
set(known "")
if(EXISTS "${TO}" AND EXISTS "${TO}.source")
  file(READ "${TO}.source" known)
endif()
if(known STREQUAL source)
  return()
endif()
get_filename_component(folder "${TO}" DIRECTORY)
set(object "${folder}/metaadamw.o")
set(new "${TO}.new")
file(REMOVE "${new}")
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE failed ERROR_VARIABLE reason)
  if(failed)
    string(REPLACE ";" " " shown "${ARGV}")
    message(FATAL_ERROR "MetaAdamW: ${shown}: ${reason}")
  endif()
endfunction()
if(APPLE)
  run("${LINKER}" -r -exported_symbol "_maw_*" -all_load "${FROM}" -o "${object}")
else()
  # A section group of one name is linked once, whichever archive it is from: none may remain, as its symbols become local.
  run("${LINKER}" -r --force-group-allocation --whole-archive "${FROM}" -o "${object}")
  # The standard library's objects carry their bitcode, which makes no sense once they are one object.
  run("${OBJCOPY}" --wildcard "--keep-global-symbol=maw_*" --strip-debug
    --remove-section=.llvmbc --remove-section=.llvmcmd "${object}")
endif()
run("${AR}" qcs "${new}" "${object}")
file(RENAME "${new}" "${TO}")
file(WRITE "${TO}.source" "${source}")
file(REMOVE "${object}")
