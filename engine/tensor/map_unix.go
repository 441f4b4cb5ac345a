//go:build unix

package tensor

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Mapping is a file's bytes mapped read-only into memory.
type Mapping struct{ data []byte }

// Map maps the whole file at path. The pages are read when touched.
func Map(path string) (*Mapping, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("tensor: %s is not a regular file", path)
	}
	if st.Size() == 0 {
		return &Mapping{}, nil
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("tensor: map %s: %w", path, err)
	}
	return &Mapping{data: data}, nil
}

// Bytes returns the mapped bytes; they must not be written.
func (m *Mapping) Bytes() []byte { return m.data }

// Forget tells that the bytes from lo up to hi are not needed soon: their whole pages
// leave this process's memory and come back from the file when touched.
func (m *Mapping) Forget(lo, hi int) {
	page := unix.Getpagesize()
	lo, hi = (lo+page-1)/page*page, min(hi, len(m.data))/page*page
	if lo < hi {
		unix.Madvise(m.data[lo:hi], unix.MADV_DONTNEED) // advice: nothing is lost where it is not taken
	}
}

// Close unmaps the file; tensors over it must not be used afterwards.
func (m *Mapping) Close() error {
	if m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	return unix.Munmap(data)
}
