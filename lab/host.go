package lab

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
)

// Commit returns the revision this binary was built from and whether the source was
// modified since. Where the build did not record one, as `go run` does not, it is that
// of the checkout of this module in the working folder; "unknown" elsewhere.
func Commit() (revision string, modified bool) {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				revision = s.Value
			case "vcs.modified":
				modified = s.Value == "true"
			}
		}
	}
	if revision == "" {
		revision, modified = checkout()
	}
	return revision, modified
}

// checkout asks git about the working folder when it is this module's.
func checkout() (revision string, modified bool) {
	const unknown = "unknown"
	gomod, err := os.ReadFile("go.mod")
	if err != nil || !strings.HasPrefix(string(gomod), "module tare\n") {
		return unknown, false
	}
	head, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		return unknown, false
	}
	status, err := exec.Command("git", "status", "--porcelain").Output()
	return strings.TrimSpace(string(head)), err != nil || len(status) > 0
}

// CPU names this machine's processor as the system does, or by its
// architecture where the system does not say.
func CPU() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if key, value, ok := strings.Cut(sc.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
