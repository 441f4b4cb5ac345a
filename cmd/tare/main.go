// Command tare is a weights workbench: it inspects, tunes, quantizes, merges,
// evaluates and measures model checkpoints.
package main

import (
	"os"

	"tare/app/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
