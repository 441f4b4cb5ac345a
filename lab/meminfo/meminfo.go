// Package meminfo reads what Linux says of memory in /proc. Elsewhere nothing is known.
package meminfo

import (
	"os"
	"strconv"
	"strings"
)

// Available returns the bytes that the system could give to new processes.
func Available() (bytes int64, ok bool) { return figure("/proc/meminfo", "MemAvailable:") }

// Held returns the bytes that this process has in memory.
func Held() (bytes int64, ok bool) { return figure("/proc/self/status", "VmRSS:") }

// Peak returns the most bytes that this process has had in memory since ResetPeak.
func Peak() (bytes int64, ok bool) { return figure("/proc/self/status", "VmHWM:") }

// ResetPeak sets the mark of the most back to what the process has now.
func ResetPeak() bool { return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) == nil }

// figure returns the kilobytes that follow a mark in a file, as bytes.
func figure(file, mark string) (int64, bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(raw), mark)
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, false
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10, err == nil
}
