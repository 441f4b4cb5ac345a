package grad

import "fmt"

// Grid is how a batch of images lies in a value: a row a pixel, the pixels of an
// image row by row, image after image, and a column a channel. A convolution is
// then a matrix product over gathered patches, a batch norm works by column, and
// every operation on rows applies to images as it is.
type Grid struct{ Images, Height, Width int }

// Rows returns the rows of the value, its pixels.
func (g Grid) Rows() int { return g.Images * g.Height * g.Width }

// Window is what slides over an image: a convolution's kernel or a pool's window.
// Height comes before width. A zero stride, dilation or number of groups means 1.
type Window struct {
	Kernel, Stride, Padding, Dilation [2]int
	Groups                            int // of channels that a convolution keeps apart
}

// Square returns a window of equal sides.
func Square(kernel, stride, padding int) Window {
	return Window{Kernel: [2]int{kernel, kernel}, Stride: [2]int{stride, stride}, Padding: [2]int{padding, padding}}
}

// full returns w with its zeros replaced.
func (w Window) full() Window {
	for d := range 2 {
		w.Stride[d], w.Dilation[d] = max(w.Stride[d], 1), max(w.Dilation[d], 1)
	}
	w.Groups = max(w.Groups, 1)
	return w
}

// Area returns the pixels that the window covers.
func (w Window) Area() int { return w.Kernel[0] * w.Kernel[1] }

// Check reports a window that is malformed or does not fit the images of g.
func (w Window) Check(g Grid) error {
	for d := range 2 {
		if w.Kernel[d] < 1 || w.Stride[d] < 0 || w.Padding[d] < 0 || w.Dilation[d] < 0 || w.Groups < 0 {
			return fmt.Errorf("grad: window %+v: the kernel must be at least 1, the rest not negative", w)
		}
	}
	if out := w.Out(g); out.Height < 1 || out.Width < 1 {
		return fmt.Errorf("grad: the window %v with padding %v does not fit images of %dx%d", w.Kernel, w.Padding, g.Height, g.Width)
	}
	return nil
}

// Out returns the grid of what the window leaves of g:
// ⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1.
func (w Window) Out(g Grid) Grid {
	w = w.full()
	side := func(size, d int) int {
		room := size + 2*w.Padding[d] - w.Dilation[d]*(w.Kernel[d]-1) - 1
		if room < 0 {
			return 0
		}
		return room/w.Stride[d] + 1
	}
	return Grid{g.Images, side(g.Height, 0), side(g.Width, 1)}
}

// sweep is a window on its way over a grid of pixels, of each of which it reads
// channels numbers; pixels are pitch numbers apart.
type sweep struct {
	Window
	in, out         Grid
	channels, pitch int
}

func newSweep(op string, x *Value, g Grid, w Window) sweep {
	if err := w.Check(g); err != nil {
		panic(fmt.Sprintf("grad: %s: %v", op, err))
	}
	if x.Rows != g.Rows() {
		panic(fmt.Sprintf("grad: %s: input [%d, %d] for %d images of %dx%d", op, x.Rows, x.Cols, g.Images, g.Height, g.Width))
	}
	return sweep{Window: w.full(), in: g, out: w.Out(g), channels: x.Cols, pitch: x.Cols}
}

// width returns the numbers in a patch.
func (s *sweep) width() int { return s.Area() * s.channels }

// still reports whether patches are the pixels themselves.
func (s *sweep) still() bool {
	return s.Kernel == [2]int{1, 1} && s.Stride == [2]int{1, 1} && s.Padding == [2]int{}
}

// place returns the pixel of the image's first row, and the row and column in the
// image, at which the window of output pixel at begins.
func (s *sweep) place(at int) (first, y, x int) {
	area := s.out.Height * s.out.Width
	image, at := at/area, at%area
	return image * s.in.Height * s.in.Width, at/s.out.Width*s.Stride[0] - s.Padding[0], at%s.out.Width*s.Stride[1] - s.Padding[1]
}

// inside returns the steps [lo, hi) of n, each of length step from at on, that fall
// in [0, size).
func inside(at, n, step, size int) (lo, hi int) {
	if at < 0 {
		lo = (-at + step - 1) / step
	}
	return min(lo, n), max(min(n, (size-at+step-1)/step), min(lo, n))
}

// taps calls f for the part of output pixel at's window that lies on the image:
// row i of the window meets the image in columns [lo, hi) of the window, the first
// of them at input pixel from. Rows that miss the image are left out.
func (s *sweep) taps(at int, f func(i, lo, hi, from int)) {
	first, y, x := s.place(at)
	lo, hi := inside(x, s.Kernel[1], s.Dilation[1], s.in.Width)
	if lo == hi {
		return
	}
	top, bottom := inside(y, s.Kernel[0], s.Dilation[0], s.in.Height)
	for i := top; i < bottom; i++ {
		f(i, lo, hi, first+(y+i*s.Dilation[0])*s.in.Width+x+lo*s.Dilation[1])
	}
}

// gather writes the patches of output pixels [lo, hi), one a row [Area·channels] in
// the order kernel row, kernel column, channel, zeros where the window is outside. It
// goes by rows of pixels, whose windows share their input rows.
func (s *sweep) gather(dst, src []float32, lo, hi int) {
	k := s.width()
	for lo < hi {
		n := min(hi-lo, s.out.Width-lo%s.out.Width)
		s.gatherRow(dst[:n*k], src, lo, n)
		dst, lo = dst[n*k:], lo+n
	}
}

// gatherRow is gather for n pixels of one row of the output, from pixel at on.
func (s *sweep) gatherRow(dst, src []float32, at, n int) {
	k, run, c := s.width(), s.Kernel[1]*s.channels, s.channels
	first, y, x := s.place(at)
	for i := range s.Kernel[0] {
		row := y + i*s.Dilation[0]
		if uint(row) >= uint(s.in.Height) {
			for p := range n {
				clear(dst[p*k+i*run : p*k+(i+1)*run])
			}
			continue
		}
		line := src[(first+row*s.in.Width)*s.pitch:]
		for p := range n {
			to := dst[p*k+i*run : p*k+(i+1)*run]
			begin := x + p*s.Stride[1]
			if begin >= 0 && begin+(s.Kernel[1]-1)*s.Dilation[1] < s.in.Width && s.Dilation[1] == 1 && s.pitch == c {
				move(to, line[begin*c:]) // the window's row is one piece of memory
				continue
			}
			left, right := inside(begin, s.Kernel[1], s.Dilation[1], s.in.Width)
			clear(to[:left*c])
			clear(to[right*c:])
			for j := left; j < right; j++ {
				copy(to[j*c:(j+1)*c], line[(begin+j*s.Dilation[1])*s.pitch:])
			}
		}
	}
}

// move copies len(dst) numbers, few or many.
func move(dst, src []float32) {
	if len(dst) > 8 {
		copy(dst, src)
		return
	}
	src = src[:len(dst)]
	//lint:ignore S1001 for so few the call costs more than the moves
	for i, v := range src {
		dst[i] = v
	}
}
