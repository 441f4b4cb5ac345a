package data

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// idx packs values of the given sizes as an IDX file.
func idx(sizes []uint32, values []byte) []byte {
	raw := []byte{0, 0, 8, byte(len(sizes))}
	for _, n := range sizes {
		raw = binary.BigEndian.AppendUint32(raw, n)
	}
	return zip(append(raw, values...))
}

func zip(raw []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(raw)
	z.Close()
	return b.Bytes()
}

func TestIDX(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(mnistFolder, dir)
	put := func(images, labels []byte) {
		t.Helper()
		for name, raw := range map[string][]byte{"images-idx3": images, "labels-idx1": labels} {
			if err := os.WriteFile(filepath.Join(dir, "t10k-"+name+"-ubyte.gz"), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := MNIST(false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	labels := idx([]uint32{2}, []byte{7, 0})
	put(idx([]uint32{2, 1, 3}, []byte{0, 51, 255, 1, 2, 3}), labels)
	m, err := MNIST(false)
	if err != nil {
		t.Fatal(err)
	}
	if m.N != 2 || m.Rows != 1 || m.Cols != 3 || !slices.Equal(m.Labels, []int32{7, 0}) || !slices.Equal(m.Pixels[:3], []float32{0, 0.2, 1}) {
		t.Errorf("%+v", m)
	}
	whole := idx([]uint32{2, 1, 3}, make([]byte, 6))
	for want, images := range map[string][]byte{
		"needs 6 values, the file has 5": idx([]uint32{2, 1, 3}, make([]byte, 5)),
		"the file has 7":                 idx([]uint32{2, 1, 3}, make([]byte, 7)),
		"dimension 0":                    idx([]uint32{0, 1, 3}, nil),
		"dimension":                      idx([]uint32{1 << 31, 1 << 31, 1 << 31}, nil),
		"the header is":                  zip([]byte{0, 0, 9, 3}),
		"00 00 08 03":                    labels,
		"gzip":                           []byte("not packed at all"),
		"EOF":                            whole[:len(whole)-9],
		"2 labels for the 3 images":      idx([]uint32{3, 1, 1}, make([]byte, 3)),
	} {
		put(images, labels)
		if _, err := MNIST(false); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want ErrFormat with %q", err, want)
		}
	}
}

// The sizes and the number of each digit are those that the set's authors publish.
func TestMNISTIsWhole(t *testing.T) {
	m, err := MNIST(false)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no MNIST: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	if m.N != 10000 || m.Rows != 28 || m.Cols != 28 || len(m.Pixels) != 10000*784 {
		t.Errorf("%d images of %d by %d", m.N, m.Rows, m.Cols)
	}
	count := make([]int, 10)
	for _, label := range m.Labels {
		count[label]++
	}
	if want := []int{980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009}; !slices.Equal(count, want) {
		t.Errorf("digits %v, want %v", count, want)
	}
	if lo, hi := slices.Min(m.Pixels), slices.Max(m.Pixels); lo != 0 || hi != 1 {
		t.Errorf("pixels from %v to %v", lo, hi)
	}
}
