package kernel

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// The code paths, by name.
const (
	pathPortable = "portable"
	pathAVX2     = "avx2"
	pathAVX512   = "avx512"
)

// path is the code path in use; useAVX512 and useAVX2 are what dispatching
// functions look at, at most one of them true.
var (
	path               = pathPortable
	useAVX512, useAVX2 bool
)

func init() {
	name := os.Getenv("TARE_KERNEL")
	if name == "" {
		name = Paths()[0]
	}
	if err := SetPath(name); err != nil {
		fmt.Fprintf(os.Stderr, "tare: TARE_KERNEL: %v\n", err)
		os.Exit(2)
	}
}

// Path names the code path in use: "avx512", "avx2" or "portable". At start-up it
// is the best that the processor offers, or what the environment variable
// TARE_KERNEL says; a value there that is unknown or that this processor lacks
// stops the program at start-up with a message that lists the valid ones.
func Path() string { return path }

// Paths lists the code paths that this processor offers, the fastest first.
func Paths() []string {
	var names []string
	if hasAVX512() {
		names = append(names, pathAVX512)
	}
	if hasAVX2() {
		names = append(names, pathAVX2)
	}
	return append(names, pathPortable)
}

// SetPath switches the code path, for tests and benchmarks; it must not run at
// the same time as any other function of this package.
func SetPath(name string) error {
	if !slices.Contains(Paths(), name) {
		return fmt.Errorf("kernel: path %q is unknown or not offered by this processor; valid here: %s", name, strings.Join(Paths(), ", "))
	}
	path, useAVX512, useAVX2 = name, name == pathAVX512, name == pathAVX2
	return nil
}

// Info names the architecture and the code path in use.
func Info() string { return runtime.GOARCH + "/" + path }
