// Command protogen compiles messages/events.proto into Go without a protoc on the
// machine: protocompile parses it, and the two generators of go.mod's tool list write
// the code.
//
//	go generate ./messages
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	dir := flag.String("dir", ".", "folder of the .proto file and of the code written")
	flag.Parse()
	if err := run(context.Background(), *dir, "events.proto"); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

// generators are the plug-ins with their parameters, run in this order.
var generators = []struct{ tool, parameter string }{
	{"protoc-gen-go", "paths=source_relative"},
	{"protoc-gen-go-vtproto", "paths=source_relative,features=marshal+unmarshal+size"},
}

func run(ctx context.Context, dir, file string) error {
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{dir}},
		SourceInfoMode: protocompile.SourceInfoStandard, // the comments of the .proto become Go comments
	}
	files, err := compiler.Compile(ctx, file)
	if err != nil {
		return fmt.Errorf("compile %s: %w", file, err)
	}
	descriptor := protodesc.ToFileDescriptorProto(files[0])
	for _, g := range generators {
		if err := generate(ctx, dir, file, g.tool, g.parameter, descriptor); err != nil {
			return fmt.Errorf("%s: %w", g.tool, err)
		}
	}
	return nil
}

func generate(ctx context.Context, dir, file, tool, parameter string, descriptor *descriptorpb.FileDescriptorProto) error {
	request, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{file},
		Parameter:      proto.String(parameter),
		ProtoFile:      []*descriptorpb.FileDescriptorProto{descriptor},
	})
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "tool", tool)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out.Bytes(), &response); err != nil {
		return fmt.Errorf("decode response: %w", err)
	}
	if response.Error != nil {
		return errors.New(response.GetError())
	}
	for _, f := range response.File {
		path := filepath.Join(dir, filepath.Base(f.GetName()))
		if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
