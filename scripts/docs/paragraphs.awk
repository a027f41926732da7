# For Doxygen: what the header's comments say of arguments (`name`: …) and of statuses (`MAW_OK`; …) begins a line there, and
# becomes a paragraph.
/^\/\/\/ (`[a-z_]+`(, )?)+: / || /^\/\/\/ `MAW_OK`/ { print "///" }
{ print }
