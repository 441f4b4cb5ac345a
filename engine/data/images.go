package data

import (
	"fmt"
	"image"
	_ "image/jpeg" // formats of image.Decode
	_ "image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/image/draw"
)

// ImageOptions says how a folder of images is read.
type ImageOptions struct {
	Rows, Cols int  // every image is scaled to this size; 0 keeps the first one's
	Color      bool // three channels, one plane after the other; otherwise grey
}

// The bounds of one image and of all, in pixels.
const (
	imageLimit    = 1 << 26
	imagesLimit   = 1 << 30
	smallImage    = 1 << 20 // any file may hold so many
	pixelsPerByte = 1024    // and so many more for each byte: no compression makes more of one
)

// imageSuffixes are the names that count as images.
var imageSuffixes = []string{".png", ".jpg", ".jpeg"}

// ReadImages reads a folder whose subfolders are classes with PNG and JPEG files in
// them. Classes are numbered in the order of their names, and come back; images come
// in the order of their paths. Other files and hidden folders are passed over.
func ReadImages(dir string, o ImageOptions) (m *Images, classes []string, err error) {
	if o.Rows < 0 || o.Cols < 0 || (o.Rows == 0) != (o.Cols == 0) || int64(o.Rows)*int64(o.Cols) > imageLimit {
		return nil, nil, fmt.Errorf("data: images of %d x %d pixels", o.Rows, o.Cols)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("data: %w", err)
	}
	m = &Images{Rows: o.Rows, Cols: o.Cols}
	if o.Color {
		m.Channels = 3
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		n := m.N
		if err := m.addClass(filepath.Join(dir, e.Name()), int32(len(classes))); err != nil {
			return nil, nil, fmt.Errorf("data: %w", err)
		}
		if m.N == n {
			return nil, nil, fmt.Errorf("data: %s has no images (%s): %w", filepath.Join(dir, e.Name()), strings.Join(imageSuffixes, ", "), ErrEmpty)
		}
		classes = append(classes, e.Name())
	}
	if m.N == 0 {
		return nil, nil, fmt.Errorf("data: %s has no folders with images, one for each class: %w", dir, ErrEmpty)
	}
	return m, classes, nil
}

func (m *Images) addClass(dir string, class int32) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() || !slices.Contains(imageSuffixes, strings.ToLower(filepath.Ext(path))) {
			return nil
		}
		if err := m.addImage(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		m.Labels = append(m.Labels, class)
		m.N++
		return nil
	})
}

func (m *Images) addImage(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return m.decode(f, st.Size())
}

// decode appends the image in a file of size bytes.
func (m *Images) decode(f io.ReadSeeker, size int64) (err error) {
	defer recovered(&err)
	config, format, err := image.DecodeConfig(f)
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrFormat)
	}
	// A decoder takes memory for all pixels before it has seen any.
	limit := min(imageLimit, smallImage+pixelsPerByte*size)
	if config.Width < 1 || config.Height < 1 || int64(config.Width)*int64(config.Height) > limit {
		return fmt.Errorf("%s of %d x %d pixels in %d bytes, at most %d are read: %w", format, config.Width, config.Height, size, limit, ErrFormat)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	decoded, _, err := image.Decode(f)
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrFormat)
	}
	if m.Rows == 0 {
		m.Rows, m.Cols = config.Height, config.Width
	}
	if (int64(m.N)+1)*int64(m.Rows)*int64(m.Cols)*int64(m.channels()) > imagesLimit {
		return fmt.Errorf("more than %d pixels in all: read smaller ones: %w", imagesLimit, ErrFormat)
	}
	m.Pixels = appendPixels(m.Pixels, decoded, m.Rows, m.Cols, m.channels())
	return nil
}

// appendPixels appends an image, scaled where its size is another. What is
// transparent is black.
func appendPixels(dst []float32, src image.Image, rows, cols, channels int) []float32 {
	size := image.Rect(0, 0, cols, rows)
	if channels == 1 {
		grey := image.NewGray(size)
		scale(grey, src)
		for _, v := range grey.Pix {
			dst = append(dst, float32(v)/255)
		}
		return dst
	}
	rgba := image.NewRGBA(size)
	scale(rgba, src)
	for c := range channels {
		for i := c; i < len(rgba.Pix); i += 4 {
			dst = append(dst, float32(rgba.Pix[i])/255)
		}
	}
	return dst
}

func scale(dst draw.Image, src image.Image) {
	if src.Bounds().Size() == dst.Bounds().Size() {
		draw.Draw(dst, dst.Bounds(), src, src.Bounds().Min, draw.Src)
		return
	}
	draw.CatmullRom.Scale(dst, dst.Bounds(), src, src.Bounds(), draw.Src, nil)
}
