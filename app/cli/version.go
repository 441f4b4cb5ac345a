package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"tare/engine/tensor/kernel"
	"tare/lab"
)

// versionCmd says what a figure was made with.
type versionCmd struct{}

// Help shows examples.
func (*versionCmd) Help() string {
	return `The fastest kernel path that the processor offers is used; the variable TARE_KERNEL forces another.

Examples:
  tare version
  TARE_KERNEL=portable tare version --json`
}

// build is the result as JSON.
type build struct {
	Version  string   `json:"version"`
	Commit   string   `json:"commit"`
	Modified bool     `json:"modified"`
	Go       string   `json:"go"`
	OS       string   `json:"os"`
	Arch     string   `json:"arch"`
	CPU      string   `json:"cpu"`
	Kernel   string   `json:"kernel"`
	Kernels  []string `json:"kernels"` // offered by this processor
	Threads  int      `json:"threads"`
}

// Run implements the verb.
func (*versionCmd) Run(a *app) error {
	b := build{Version: "(devel)", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		CPU: lab.CPU(), Kernel: kernel.Path(), Kernels: kernel.Paths(), Threads: kernel.Threads()}
	b.Commit, b.Modified = lab.Commit()
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	if a.JSON {
		return a.printJSON(b)
	}
	commit := b.Commit
	if b.Modified {
		commit += " with changes"
	}
	fmt.Fprintf(a.out, "tare %s, commit %s, %s %s/%s\n%s, %d threads, kernel path %s\n",
		b.Version, commit, b.Go, b.OS, b.Arch, b.CPU, b.Threads, b.Kernel)
	return nil
}
