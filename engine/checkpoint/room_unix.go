//go:build linux || darwin || freebsd

package checkpoint

import "golang.org/x/sys/unix"

// freeBytes returns the room that the file system of dir has for us.
func freeBytes(dir string) (free uint64, known bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0, false
	}
	return uint64(st.Bavail) * uint64(st.Bsize), true
}
