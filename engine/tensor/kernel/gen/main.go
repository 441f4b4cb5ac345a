// Command gen writes the assembly of package kernel and the Go declarations that
// go with it. Run it by `go generate` in the package; the output is committed. It
// is a module of its own so that users of tare do not inherit the assembler.
package main

import (
	"fmt"
	"os"

	. "github.com/mmcloughlin/avo/build"
)

// parts are the files that can be written; each is one run, because the assembler
// library keeps one file's state in globals.
var parts = map[string]func(){
	"gemm":      gemm,
	"gemv":      gemv,
	"rows":      rowTiles,
	"q8":        q8,
	"pack":      pack,
	"vector":    vector,
	"math":      transcendental,
	"norm":      norm,
	"convert":   convert,
	"optimizer": optimizer,
}

func main() {
	name := os.Args[1]
	part, ok := parts[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "gen: no part %q\n", name)
		os.Exit(2)
	}
	os.Args = append(os.Args[:1],
		"-out", "../"+name+"_amd64.s", "-stubs", "../"+name+"_amd64.go", "-pkg", "kernel")
	ConstraintExpr("amd64")
	part()
	Generate()
}
