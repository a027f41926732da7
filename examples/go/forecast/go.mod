module libmetaadamw.example/forecast

go 1.26

require libmetaadamw.example/metaadamw v0.0.0

replace libmetaadamw.example/metaadamw => ../../../bindings/go
