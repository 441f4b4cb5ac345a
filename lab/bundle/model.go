package bundle

import (
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tare/engine/checkpoint"
)

// The whole folder is compiled in, so that a build without weights works too.
//
//go:embed all:model
var modelFiles embed.FS

// ErrNoModel says that this build carries no checkpoint.
var ErrNoModel = errors.New("bundle: this build carries no checkpoint: make one with `tare pretrain lab/bundle/pretrain.yaml`, put it into lab/bundle/model and build again")

// Has says whether a checkpoint is compiled in.
func Has() bool {
	_, err := fs.Stat(modelFiles, "model/model.safetensors")
	return err == nil
}

// Tokenizer is the bundled tokenizer.json, there with or without a checkpoint.
func Tokenizer() ([]byte, error) {
	data, err := modelFiles.ReadFile("model/tokenizer.json")
	if err != nil {
		return nil, fmt.Errorf("bundle: tokenizer: %w", err)
	}
	return data, nil
}

// Folder returns a folder on the disk that holds the bundled checkpoint, for any
// verb to work on. The first call writes it below the user's cache folder, under a
// name made from its content; later calls find it there. Where there is no cache
// folder to write to, it is a temporary one. It is not to be changed: write
// elsewhere.
func Folder() (string, error) {
	if !Has() {
		return "", ErrNoModel
	}
	files, err := fs.Sub(modelFiles, "model")
	if err != nil {
		return "", fmt.Errorf("bundle: %w", err)
	}
	if cache, err := os.UserCacheDir(); err == nil {
		if dir, err := materialise(files, filepath.Join(cache, "tare")); err == nil {
			return dir, nil
		}
	}
	dir, err := os.MkdirTemp("", "tare-bundle-")
	if err != nil {
		return "", fmt.Errorf("bundle: no folder to put the checkpoint in: %w", err)
	}
	return materialise(files, dir)
}

// materialise brings files into a folder below parent, whole or not at all.
func materialise(files fs.FS, parent string) (string, error) {
	hash, err := contentHash(files)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(parent, "bundle-"+hash[:12])
	if complete(files, dir) {
		return dir, nil
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("bundle: %w", err)
	}
	temp, err := os.MkdirTemp(parent, ".bundle-")
	if err != nil {
		return "", fmt.Errorf("bundle: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := os.Chmod(temp, 0o755); err != nil {
		return "", fmt.Errorf("bundle: %w", err)
	}
	if err := copyFiles(files, temp); err != nil {
		return "", err
	}
	err = os.Rename(temp, dir)
	if err != nil && !complete(files, dir) { // what stands there was damaged
		os.RemoveAll(dir)
		err = os.Rename(temp, dir)
	}
	if err != nil && !complete(files, dir) {
		return "", fmt.Errorf("bundle: %w", err)
	}
	return dir, nil
}

// contentHash is the SHA-256 of all names and bytes, as hexadecimal digits.
func contentHash(files fs.FS) (string, error) {
	h := sha256.New()
	err := eachFile(files, func(name string, data []byte) error {
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
		return nil
	})
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// complete says whether dir has every file in its full size.
func complete(files fs.FS, dir string) bool {
	return eachFile(files, func(name string, data []byte) error {
		info, err := os.Stat(filepath.Join(dir, name))
		if err == nil && info.Size() != int64(len(data)) {
			err = fs.ErrInvalid
		}
		return err
	}) == nil
}

func copyFiles(files fs.FS, dir string) error {
	return eachFile(files, func(name string, data []byte) error {
		return checkpoint.WriteBytes(filepath.Join(dir, name), data)
	})
}

// eachFile goes through the files, which are not in subfolders, in the order of
// their names.
func eachFile(files fs.FS, do func(name string, data []byte) error) error {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	for _, e := range entries {
		data, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return fmt.Errorf("bundle: %w", err)
		}
		if err := do(e.Name(), data); err != nil {
			return fmt.Errorf("bundle: %s: %w", e.Name(), err)
		}
	}
	return nil
}
