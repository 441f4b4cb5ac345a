//go:build linux || darwin || freebsd

package checkpoint

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock takes a file for this process; false where another one has it. It is let go
// when the file is closed or the process ends, however that is.
func lock(f *os.File) bool { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil }
