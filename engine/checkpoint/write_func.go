package checkpoint

import "fmt"

// WriteFunc writes the next tensor from pieces: fill hands its bytes, little-endian
// and in order, to put, and together they must be the announced size. A tensor need
// not fit in memory this way. After an error the file is gone and the Writer of no
// more use.
func (w *Writer) WriteFunc(fill func(put func(data []byte) error) error) error {
	if w.out.f == nil {
		return fmt.Errorf("checkpoint: %s: the writer has ended", w.out.path)
	}
	if w.next == len(w.specs) {
		return w.out.fail(fmt.Errorf("all %d announced tensors are written", len(w.specs)))
	}
	s := w.specs[w.next]
	size, err := s.bytes()
	if err != nil {
		return w.out.fail(err)
	}
	var done int64
	err = fill(func(data []byte) error {
		if done += int64(len(data)); done > size {
			return fmt.Errorf("%s bytes or more for %s %v, want %s", commas(done), s.DType, s.Shape, commas(size))
		}
		_, err := w.buf.Write(data)
		return err
	})
	if err == nil && done < size {
		err = fmt.Errorf("%s bytes for %s %v, want %s", commas(done), s.DType, s.Shape, commas(size))
	}
	if err != nil {
		return w.out.fail(fmt.Errorf("tensor %q: %w", s.Name, err))
	}
	w.next++
	return nil
}

// WriteFunc writes the next tensor from pieces; see Writer.WriteFunc. After an error
// call Abort.
func (w *FolderWriter) WriteFunc(fill func(put func(data []byte) error) error) error {
	out, err := w.current()
	if err != nil {
		return err
	}
	return out.WriteFunc(fill)
}
