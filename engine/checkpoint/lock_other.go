//go:build !(linux || darwin || freebsd)

package checkpoint

import "os"

func lock(*os.File) bool { return true }
