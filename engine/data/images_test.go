package data

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func encoded(t testing.TB, name string, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	if strings.HasSuffix(name, ".png") {
		err = png.Encode(&b, m)
	} else {
		err = jpeg.Encode(&b, m, &jpeg.Options{Quality: 100})
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// folder writes files under a new folder.
func folder(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func filled(w, h int, c color.Color) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.Set(x, y, c)
		}
	}
	return m
}

func TestReadImages(t *testing.T) {
	grey := image.NewGray(image.Rect(0, 0, 3, 2))
	copy(grey.Pix, []byte{0, 51, 102, 153, 204, 255})
	red := color.RGBA{255, 0, 0, 255}
	dir := folder(t, map[string][]byte{
		"dog/b.png": encoded(t, "b.png", grey), "cat/a.JPG": encoded(t, "a.jpg", filled(6, 4, color.Gray{128})), "dog/deep/z.png": encoded(t, "z.png", filled(3, 2, red)),
		"dog/notes.txt": []byte("no image"), ".git/x/y.png": []byte("hidden"), "readme.md": nil,
	})
	m, classes, err := ReadImages(dir, ImageOptions{Rows: 2, Cols: 3})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(classes, []string{"cat", "dog"}) || !slices.Equal(m.Labels, []int32{0, 1, 1}) || m.N != 3 || m.Rows != 2 || m.Cols != 3 || len(m.Pixels) != 18 {
		t.Fatalf("%v, %v, %d images of %d x %d, %d pixels", classes, m.Labels, m.N, m.Rows, m.Cols, len(m.Pixels))
	}
	// A field of one grey stays so when scaled; the others are as written; red is
	// 0.299 bright.
	want := []float32{128, 128, 128, 128, 128, 128, 0, 51, 102, 153, 204, 255, 76, 76, 76, 76, 76, 76}
	for i, p := range m.Pixels {
		if math.Abs(float64(p-want[i]/255)) > 0.01 {
			t.Errorf("pixel %d is %g, want %g", i, p, want[i]/255)
		}
	}
	c, _, err := ReadImages(dir, ImageOptions{Rows: 1, Cols: 1, Color: true})
	if err != nil {
		t.Fatal(err)
	}
	if last := c.Pixels[6:]; c.Channels != 3 || len(c.Pixels) != 9 || last[0] < 0.99 || last[1] > 0.01 || last[2] > 0.01 {
		t.Errorf("%d channels, %v", c.Channels, c.Pixels)
	}
	first, _, err := ReadImages(dir, ImageOptions{})
	if err != nil || first.Rows != 4 || first.Cols != 6 || len(first.Pixels) != 3*24 {
		t.Errorf("%+v, %v: want the size of the first", first, err)
	}
}

func TestBadImagesAreNamed(t *testing.T) {
	tiny := encoded(t, "a.png", filled(1, 1, color.Black))
	huge := bytes.Clone(tiny)
	binary.BigEndian.PutUint32(huge[16:], 30000) // width and height, in the first chunk
	binary.BigEndian.PutUint32(huge[20:], 30000)
	binary.BigEndian.PutUint32(huge[29:], crc(huge[12:29]))
	for want, files := range map[string]map[string][]byte{
		"a/x.png: ":              {"a/x.png": []byte("no")},
		"30000 x 30000 pixels":   {"a/x.png": huge},
		"a/y.jpeg: ":             {"a/y.jpeg": tiny[:20]},
		"a has no images":        {"a/x.txt": nil},
		"no folders with images": {"x.png": tiny},
	} {
		if _, _, err := ReadImages(folder(t, files), ImageOptions{}); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrEmpty) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, _, err := ReadImages("none", ImageOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// crc is the checksum of PNG chunks.
func crc(b []byte) uint32 {
	c := ^uint32(0)
	for _, x := range b {
		c ^= uint32(x)
		for range 8 {
			c = c>>1 ^ 0xedb88320&-(c&1)
		}
	}
	return ^c
}

func TestIDXFolder(t *testing.T) {
	dir := folder(t, map[string][]byte{
		"t10k-images-idx3-ubyte": {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 255, 51, 102},
		"t10k-labels-idx1-ubyte": {0, 0, 8, 1, 0, 0, 0, 2, 7, 9},
	})
	m, err := IDX(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if m.N != 2 || m.Rows != 1 || m.Cols != 2 || !slices.Equal(m.Labels, []int32{7, 9}) || !slices.Equal(m.Pixels, []float32{0, 1, 0.2, 0.4}) {
		t.Errorf("%+v", m)
	}
	if _, err := IDX(dir, true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files that are not there: %v", err)
	}
}

func FuzzImage(f *testing.F) {
	for _, name := range []string{"a.png", "a.jpg"} {
		f.Add(encoded(f, name, filled(5, 3, color.RGBA{9, 99, 199, 255})), true)
	}
	f.Fuzz(func(t *testing.T, content []byte, rgb bool) {
		m := &Images{Rows: 4, Cols: 4}
		if rgb {
			m.Channels = 3
		}
		if err := m.decode(bytes.NewReader(content), int64(len(content))); err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%v is not ErrFormat", err)
			}
			return
		}
		if len(m.Pixels) != 16*m.channels() {
			t.Fatalf("%d pixels", len(m.Pixels))
		}
		for _, p := range m.Pixels {
			if !(p >= 0 && p <= 1) {
				t.Fatalf("a pixel is %g", p)
			}
		}
	})
}
