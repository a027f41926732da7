module godoc

go 1.26
