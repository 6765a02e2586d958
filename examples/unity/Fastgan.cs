// fastgan.h for C#: Unity, Godot with .NET, Mono, .NET. Nothing is allocated per frame.
//
// Unity: libfastgan.so (fastgan.dll, libfastgan.dylib) into Assets/Plugins/x86_64, this file into
// Assets/Plugins, the bundle into Assets/StreamingAssets. A texture that changes with every frame:
//
//     Fastgan.Generator faces; byte[] pixels; Texture2D texture;
//     void Start() {
//         faces = new Fastgan.Generator(Application.streamingAssetsPath + "/digits.fgb");
//         pixels = new byte[faces.ImageBytes];
//         var format = faces.Channels == 1 ? TextureFormat.R8 : TextureFormat.RGB24;
//         texture = new Texture2D(faces.Width, faces.Height, format, false);  // rows go upwards
//     }
//     void Update() {
//         faces.Generate(pixels, 7, (ulong)Time.frameCount);
//         texture.LoadRawTextureData(pixels);
//         texture.Apply();
//     }
//     void OnDestroy() { faces.Dispose(); }
//
// A Generator is of one thread at a time; one made in a thread of its own leaves Update free.
using System;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Fastgan
{
    public enum Status
    {
        Ok, Argument, File, Damaged, Format, Memory, Missing, Busy, Cancelled, Internal
    }

    // A status that is not Ok, and its sentence.
    public sealed class FastganException : Exception
    {
        public readonly Status Status;

        internal FastganException(Status status, string text) : base(text) { Status = status; }
    }

    // Images of a bundle, as bytes: [height, width, channels], rows from the top.
    public sealed class Generator : IDisposable
    {
        public readonly int Width, Height, Channels;     // of an image that is made
        public readonly int InWidth, InHeight, InChannels;  // of one that is taken; 0 for none
        public readonly int ImageBytes, LatentSize;

        readonly SessionHandle session;
        readonly long[] label = new long[1];

        // threads: that share an image, the calling one included. width, height: as the bundle was
        // made for; 0: its first size.
        public Generator(string path, int threads = 1, int width = 0, int height = 0)
        {
            ModelHandle model;
            Check(Native.fastgan_open(path, IntPtr.Zero, out model));
            using (model)
            {
                var settings = new Native.Settings {
                    Size = (uint)Marshal.SizeOf(typeof(Native.Settings)), Threads = threads,
                    Width = width, Height = height, Format = 1
                };
                Check(Native.fastgan_prepare(model, ref settings, out session));
            }
            Native.Program of;
            ulong bytes;
            Check(Native.fastgan_describe_session(session, out of, out bytes));
            Width = (int)of.Width;
            Height = (int)of.Height;
            Channels = (int)of.Channels;
            InWidth = (int)of.InWidth;
            InHeight = (int)of.InHeight;
            InChannels = (int)of.InChannels;
            ImageBytes = checked((int)bytes);
            LatentSize = checked((int)Native.fastgan_latent_size(session).ToUInt64());
        }

        // Images of samples start, start + 1, ... of a seed, as many as fit. label: a class, of one
        // image; -1 has the seed draw it.
        public void Generate(byte[] images, ulong seed, ulong start = 0, long label = -1,
                             double truncation = 0)
        {
            if (label >= 0 && images.Length >= 2 * (long)ImageBytes)
            {
                throw new ArgumentException("a label is for one image at a time");
            }
            this.label[0] = label;
            var labels = default(GCHandle);
            if (label >= 0) labels = GCHandle.Alloc(this.label, GCHandleType.Pinned);
            try { Make(images, seed, start, truncation, labels, default(GCHandle)); }
            finally { if (labels.IsAllocated) labels.Free(); }
        }

        // Images of latents, LatentSize numbers each.
        public void Generate(byte[] images, float[] latents)
        {
            if (latents.Length / Math.Max(1, LatentSize) < images.Length / ImageBytes)
            {
                throw new ArgumentException("fewer latents than images");
            }
            var rows = GCHandle.Alloc(latents, GCHandleType.Pinned);
            try { Make(images, 0, 0, 0, default(GCHandle), rows); }
            finally { rows.Free(); }
        }

        // The latents of samples start, start + 1, ... of a seed, as many as fit.
        public void Latents(float[] into, ulong seed, ulong start = 0, double truncation = 0)
        {
            var size = new UIntPtr((ulong)into.Length * sizeof(float));
            var n = into.Length / Math.Max(1, LatentSize);
            Check(Native.fastgan_latents(session, seed, start, n, truncation, into, size));
        }

        // One image through an image-to-image model.
        public void Apply(byte[] image, byte[] into)
        {
            Check(Native.fastgan_apply(session, image, new UIntPtr((ulong)image.Length), 1, into,
                                       new UIntPtr((ulong)into.Length)));
        }

        // Gives an input that no seed makes a value, for all later calls.
        public void Set(string input, params float[] values)
        {
            Check(Native.fastgan_set(session, input, values, new UIntPtr((ulong)values.Length)));
        }

        // Ends the call that is running, from any thread.
        public void Cancel() { Native.fastgan_cancel(session); }

        public void Dispose() { session.Dispose(); }

        void Make(byte[] images, ulong seed, ulong start, double truncation, GCHandle labels,
                  GCHandle latents)
        {
            var request = new Native.Request {
                Size = (uint)Marshal.SizeOf(typeof(Native.Request)),
                Count = images.Length / ImageBytes,
                Seed = seed, Start = start, Truncation = truncation,
                Labels = labels.IsAllocated ? labels.AddrOfPinnedObject() : IntPtr.Zero,
                Latents = latents.IsAllocated ? latents.AddrOfPinnedObject() : IntPtr.Zero
            };
            Check(Native.fastgan_generate(session, ref request, images,
                                          new UIntPtr((ulong)images.Length)));
        }

        static void Check(Status status)
        {
            if (status == Status.Ok) return;
            throw new FastganException(status, Marshal.PtrToStringAnsi(Native.fastgan_message()));
        }
    }

    sealed class ModelHandle : SafeHandleZeroOrMinusOneIsInvalid
    {
        ModelHandle() : base(true) { }
        protected override bool ReleaseHandle() { Native.fastgan_close(handle); return true; }
    }

    sealed class SessionHandle : SafeHandleZeroOrMinusOneIsInvalid
    {
        SessionHandle() : base(true) { }
        protected override bool ReleaseHandle() { Native.fastgan_release(handle); return true; }
    }

    static class Native
    {
        const string Library = "fastgan";
        const CallingConvention C = CallingConvention.Cdecl;

        [StructLayout(LayoutKind.Sequential)]
        internal struct Settings
        {
            internal uint Size;
            internal int Threads;
            internal long Batch, Height, Width;
            internal int Format;
        }

        [StructLayout(LayoutKind.Sequential)]
        internal struct Program
        {
            internal long Batch, Height, Width, Channels, InHeight, InWidth, InChannels;
        }

        [StructLayout(LayoutKind.Sequential)]
        internal struct Request
        {
            internal uint Size;
            internal long Count;
            internal ulong Seed, Start;
            internal double Truncation;
            internal IntPtr Labels, Latents;
        }

        [DllImport(Library, CallingConvention = C)]
        internal static extern IntPtr fastgan_message();

        [DllImport(Library, CallingConvention = C)]
        internal static extern Status fastgan_open([MarshalAs(UnmanagedType.LPStr)] string path,
                                                   IntPtr options, out ModelHandle model);

        [DllImport(Library, CallingConvention = C)]
        internal static extern void fastgan_close(IntPtr model);

        [DllImport(Library, CallingConvention = C)]
        internal static extern Status fastgan_prepare(ModelHandle model, ref Settings settings,
                                                      out SessionHandle session);

        [DllImport(Library, CallingConvention = C)]
        internal static extern void fastgan_release(IntPtr session);

        [DllImport(Library, CallingConvention = C)]
        internal static extern Status fastgan_describe_session(SessionHandle session,
                                                               out Program program,
                                                               out ulong imageBytes);

        [DllImport(Library, CallingConvention = C)]
        internal static extern UIntPtr fastgan_latent_size(SessionHandle session);

        [DllImport(Library, CallingConvention = C)]
        internal static extern Status fastgan_latents(SessionHandle session, ulong seed,
                                                      ulong start, long n, double truncation,
                                                      [Out] float[] into, UIntPtr size);

        [DllImport(Library, CallingConvention = C)]
        internal static extern Status fastgan_generate(SessionHandle session, ref Request request,
                                                       [Out] byte[] into, UIntPtr size);

        [DllImport(Library, CallingConvention = C)]
        internal static extern Status fastgan_apply(SessionHandle session, [In] byte[] images,
                                                    UIntPtr imagesSize, long count,
                                                    [Out] byte[] into, UIntPtr size);

        [DllImport(Library, CallingConvention = C)]
        internal static extern Status fastgan_set(SessionHandle session,
                                                  [MarshalAs(UnmanagedType.LPStr)] string input,
                                                  [In] float[] values, UIntPtr count);

        [DllImport(Library, CallingConvention = C)]
        internal static extern void fastgan_cancel(SessionHandle session);
    }
}
