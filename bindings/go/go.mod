module libmetaadamw.example/metaadamw

go 1.26
