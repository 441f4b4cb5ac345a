//go:build !unix

package tensor

import "os"

// Mapping is a file's bytes in memory; on this system they are read, not mapped.
type Mapping struct{ data []byte }

// Map reads the whole file at path.
func Map(path string) (*Mapping, error) {
	data, err := os.ReadFile(path)
	return &Mapping{data: data}, err
}

// Bytes returns the file's bytes; they must not be written.
func (m *Mapping) Bytes() []byte { return m.data }

// Forget does nothing on this system.
func (m *Mapping) Forget(lo, hi int) {}

// Close lets the bytes go.
func (m *Mapping) Close() error { m.data = nil; return nil }
