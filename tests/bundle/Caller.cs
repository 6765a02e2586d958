// A program on examples/unity/Fastgan.cs: two images of seed 11, one of latents, and with a class as
// argument one of that; and what is wrong is an exception.
using System;

static class Caller
{
    static int Main(string[] arguments)
    {
        try
        {
            new Fastgan.Generator("/no/such/file.fgb");
            return 3;
        }
        catch (Fastgan.FastganException error)
        {
            if (error.Status != Fastgan.Status.File || error.Message.Length == 0) return 4;
        }
        using (var digits = new Fastgan.Generator(arguments[0], threads: 2))
        using (var output = Console.OpenStandardOutput())
        {
            var images = new byte[2 * digits.ImageBytes];
            digits.Generate(images, 11);
            output.Write(images, 0, images.Length);
            var latents = new float[digits.LatentSize];
            digits.Latents(latents, 11, start: 5);
            var one = new byte[digits.ImageBytes];
            digits.Generate(one, latents);
            output.Write(one, 0, one.Length);
            if (arguments.Length > 1)
            {
                digits.Generate(one, 11, label: long.Parse(arguments[1]));
                output.Write(one, 0, one.Length);
            }
            try
            {
                digits.Generate(one, 11, ulong.MaxValue);
                return 5;
            }
            catch (Fastgan.FastganException error)
            {
                if (error.Status != Fastgan.Status.Argument) return 6;
            }
        }
        return 0;
    }
}
